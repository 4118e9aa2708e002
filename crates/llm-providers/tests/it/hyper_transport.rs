//! The transport over real sockets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use llm_providers::transport::{Body, Certificates, HyperConfig, HyperTransport, Pem, Proxy, Transport};
use llm_providers::{Deadline, Error, Phase};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::server::{Peer, serve};

const SECOND: Duration = Duration::from_secs(1);

fn transport() -> HyperTransport {
    HyperTransport::new(HyperConfig::default().with_proxy(Proxy::None)).unwrap()
}

fn post(url: &str, body: &str) -> http::Request<Bytes> {
    let mut request = http::Request::new(Bytes::from(body.to_owned()));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = url.parse().unwrap();
    request
}

async fn read(body: Body) -> Result<Vec<u8>, Error> {
    let pieces: Vec<Result<Bytes, Error>> = body.collect().await;
    pieces.into_iter().try_fold(Vec::new(), |mut all, piece| {
        all.extend_from_slice(&piece?);
        Ok(all)
    })
}

async fn ask(transport: &HyperTransport, url: &str) -> Result<Vec<u8>, Error> {
    read(transport.send(post(url, "question")).await?.into_body()).await
}

/// Answers every request with its number on its connection.
async fn count(mut peer: Peer) {
    let mut n = 0;
    while peer.request().await.is_some() {
        peer.answer(200, "", format!("{}.{n}", peer.number)).await;
        n += 1;
    }
}

#[tokio::test]
async fn requests_are_whole_and_connections_are_used_again() {
    let server = serve(|mut peer| async move {
        while let Some(asked) = peer.request().await {
            let seen = format!("{}|{}", asked.head.to_ascii_lowercase(), String::from_utf8(asked.body).unwrap());
            peer.answer(404, "location: http://elsewhere/\r\n", seen).await;
        }
    })
    .await;
    let transport = transport();
    for _ in 0..3 {
        let response = transport.send(post(&server.url("/v1/x?y=1"), "question")).await.unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()["location"] == "http://elsewhere/"), (404, true));
        let seen = String::from_utf8(read(response.into_body()).await.unwrap()).unwrap();
        assert!(seen.starts_with("post /v1/x?y=1 http/1.1\r\n") && seen.ends_with("|question"), "{seen}");
        assert!(seen.contains(&format!("host: {}", server.address)), "{seen}");
        assert!(seen.contains("user-agent: llm-providers/") && seen.contains("content-length: 8"), "{seen}");
    }
    assert_eq!(server.n_connections(), 1);
}

#[tokio::test]
async fn a_dropped_request_or_body_closes_the_connection() {
    let closed = Arc::new(Notify::new());
    let notify = closed.clone();
    let server = serve(move |mut peer| {
        let closed = notify.clone();
        async move {
            peer.request().await;
            if peer.number == 1 {
                peer.begin_stream().await;
                peer.chunk("piece").await;
            }
            peer.until_closed().await;
            closed.notify_one();
        }
    })
    .await;
    let transport = transport();
    assert!(timeout(SECOND / 10, transport.send(post(&server.url("/"), ""))).await.is_err());
    timeout(SECOND, closed.notified()).await.unwrap();
    let mut body = transport.send(post(&server.url("/"), "")).await.unwrap().into_body();
    assert_eq!(body.next().await.unwrap().unwrap(), "piece");
    assert!(closed.notified().now_or_never().is_none());
    drop(body);
    timeout(SECOND, closed.notified()).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_not_used() {
    let server = serve(|mut peer| async move {
        peer.request().await;
        peer.answer(200, "", "one").await;
    })
    .await;
    let transport = transport();
    for n in 1..4 {
        assert_eq!(ask(&transport, &server.url("/")).await.unwrap(), b"one");
        assert_eq!(server.n_connections(), n);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Each call on `block_on` of its own: between calls nobody looks after the connections.
#[test]
fn a_connection_that_was_closed_while_the_runtime_slept_is_not_used() {
    let server_runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = server_runtime.block_on(serve(|mut peer| async move {
        peer.request().await;
        peer.answer(200, "", "one").await;
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let transport = transport();
    for _ in 0..3 {
        assert_eq!(runtime.block_on(ask(&transport, &server.url("/"))).unwrap(), b"one");
        std::thread::sleep(Duration::from_millis(150));
    }
    // Connections of a runtime that is gone are not used either.
    drop(runtime);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(ask(&transport, &server.url("/"))).unwrap(), b"one");
}

/// A connection outlives the runtime it was made in only as something that is thrown away.
#[test]
fn a_kept_connection_does_not_break_the_next_runtime() {
    let server_runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = server_runtime.block_on(serve(count));
    let transport = transport();
    for n in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(ask(&transport, &server.url("/"))).unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), format!("{n}.0"));
    }
}

#[tokio::test]
async fn nothing_is_sent_twice() {
    let server = serve(|mut peer| async move {
        peer.request().await;
        if peer.number == 0 {
            peer.answer(200, "", "one").await;
            peer.request().await;
        }
        // The request was read; there is no answer.
    })
    .await;
    let transport = transport();
    assert_eq!(ask(&transport, &server.url("/")).await.unwrap(), b"one");
    let error = ask(&transport, &server.url("/")).await.unwrap_err();
    assert!(matches!(&error, Error::Transport { phase: Phase::Send, .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("the connection to {} broke before an answer came", server.url("")));
    assert_eq!(server.n_connections(), 1);
}

#[tokio::test]
async fn idle_connections_are_bounded_in_number_and_time() {
    let server = serve(count).await;
    let config = HyperConfig::default().with_proxy(Proxy::None).with_idle(SECOND / 5, 2);
    let transport = HyperTransport::new(config).unwrap();
    let url = server.url("/");
    let together = || futures_util::future::join_all((0..4).map(|_| ask(&transport, &url)));
    together().await;
    assert_eq!(server.n_connections(), 4);
    together().await;
    assert_eq!(server.n_connections(), 6);
    tokio::time::sleep(SECOND / 4).await;
    ask(&transport, &url).await.unwrap();
    assert_eq!(server.n_connections(), 7);
}

#[tokio::test]
async fn failures_to_connect_are_told_apart() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = ask(&transport(), &format!("http://name:planted@{free}/secret?key=planted")).await.unwrap_err();
    assert!(matches!(&error, Error::Connect { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("cannot connect to http://{free}"));
    assert!(!format!("{error:?}").contains("planted"));

    // A proxy that takes the connection and says nothing.
    let proxy = serve(|mut peer| async move { peer.until_closed().await }).await;
    let config = HyperConfig::default().with_proxy(Proxy::address(proxy.url(""))).with_connect_timeout(SECOND / 10);
    let error = ask(&HyperTransport::new(config).unwrap(), "https://host/").await.unwrap_err();
    assert!(
        matches!(error, Error::Timeout { deadline: Deadline::Connect, .. } | Error::Configuration { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn plain_addresses_go_through_an_http_proxy_whole() {
    let proxy = serve(|mut peer| async move {
        while let Some(asked) = peer.request().await {
            peer.answer(200, "", asked.head.to_ascii_lowercase()).await;
        }
    })
    .await;
    let url = format!("http://name:planted@{}", proxy.address);
    let transport = HyperTransport::new(HyperConfig::default().with_proxy(Proxy::address(url))).unwrap();
    assert!(!format!("{transport:?}").contains("planted"));
    for _ in 0..2 {
        let seen = String::from_utf8(ask(&transport, "http://model.invalid:8080/v1").await.unwrap()).unwrap();
        assert!(seen.starts_with("post http://model.invalid:8080/v1 http/1.1\r\n"), "{seen}");
        assert!(seen.contains("host: model.invalid:8080"), "{seen}");
        assert!(seen.contains("proxy-authorization: basic bmftztpwbgfudgvk"), "{seen}");
    }
    assert_eq!(proxy.n_connections(), 1);
}

#[tokio::test]
async fn https_asks_an_http_proxy_for_a_tunnel() {
    let proxy = serve(|mut peer| async move {
        let asked = peer.request().await.unwrap();
        assert!(asked.head.starts_with("CONNECT model.invalid:443 HTTP/1.1\r\n"), "{}", asked.head);
        peer.send("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    })
    .await;
    let config = HyperConfig::default().with_proxy(Proxy::address(proxy.url("")));
    let config = config.with_certificates(Certificates::Only(Pem::Bytes(AUTHORITY.into())));
    let error = ask(&HyperTransport::new(config).unwrap(), "https://model.invalid/").await.unwrap_err();
    assert_eq!(error.to_string(), "cannot connect to https://model.invalid:443");
    assert!(format!("{error:?}").contains("ProxyAuthRequired"), "{error:?}");
}

#[tokio::test]
async fn socks_proxies_look_names_up() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let proxy = serve(|mut peer| async move {
        let mut bytes = [0; 64];
        assert_eq!(peer.stream.read(&mut bytes).await.unwrap(), 3);
        peer.stream.write_all(&[5, 0]).await.unwrap();
        let n = peer.stream.read(&mut bytes).await.unwrap();
        assert_eq!(&bytes[..n], [&[5, 1, 0, 3, 13][..], b"model.invalid", &[0x1F, 0x90]].concat());
        peer.stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await.unwrap();
        count(peer).await;
    })
    .await;
    let url = format!("socks5h://{}", proxy.address);
    let transport = HyperTransport::new(HyperConfig::default().with_proxy(Proxy::address(url))).unwrap();
    assert_eq!(ask(&transport, "http://model.invalid:8080/v1").await.unwrap(), b"0.0");
    assert_eq!(ask(&transport, "http://model.invalid:8080/v1").await.unwrap(), b"0.1");
}

const AUTHORITY: &str = include_str!("tls/authority.pem");

/// Speaks TLS and answers every request with its number on its connection.
async fn count_over_tls(peer: Peer) {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let number = peer.number;
    let Ok(mut stream) = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(peer.stream).await else { return };
    let mut bytes = [0; 4096];
    let mut n = 0;
    while stream.read(&mut bytes).await.is_ok_and(|n| n > 0) {
        let body = format!("{number}.{n}");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        n += 1;
    }
}

#[tokio::test]
async fn certificates_of_an_own_authority_are_believed_and_others_are_not() {
    let server = serve(count_over_tls).await;
    let with = |certificates| {
        let config = HyperConfig::default().with_proxy(Proxy::None).with_certificates(certificates);
        HyperTransport::new(config).unwrap()
    };
    let url = format!("https://{}/", server.address);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls/authority.pem");
    for (n, certificates) in
        [Certificates::Only(Pem::Bytes(AUTHORITY.into())), Certificates::SystemAnd(Pem::File(file.into()))]
            .into_iter()
            .enumerate()
    {
        let transport = with(certificates);
        for m in 0..2 {
            let answer = ask(&transport, &url).await.unwrap();
            assert_eq!(String::from_utf8(answer).unwrap(), format!("{}.{m}", 2 * n));
        }
        // The refused connection is the next one's number.
        let elsewhere = ask(&transport, &url.replace("127.0.0.1", "localhost")).await;
        assert!(matches!(elsewhere, Err(Error::Connect { .. })), "a certificate for another name");
    }
    // Without the authority there is no connection; where the system has no certificates at all, the error says so.
    match ask(&with(Certificates::System), &url).await.unwrap_err() {
        Error::Connect { endpoint, .. } => assert_eq!(format!("{endpoint}/"), url),
        error => assert!(error.to_string().contains("the system has none"), "{error}"),
    }
}

#[tokio::test]
async fn tls_goes_through_a_tunnel() {
    let target = serve(count_over_tls).await;
    let address = target.address;
    let proxy = serve(move |mut peer| async move {
        let asked = peer.request().await.unwrap();
        assert!(asked.head.starts_with("CONNECT model.invalid:8443 HTTP/1.1\r\n"), "{}", asked.head);
        assert!(asked.head.contains("Basic bmFtZTpwbGFudGVk"), "{}", asked.head);
        let mut through = tokio::net::TcpStream::connect(address).await.unwrap();
        peer.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let _ = tokio::io::copy_bidirectional(&mut peer.stream, &mut through).await;
    })
    .await;
    let config = HyperConfig::default().with_proxy(Proxy::address(format!("http://name:planted@{}", proxy.address)));
    let config = config.with_certificates(Certificates::Only(Pem::Bytes(AUTHORITY.into())));
    let transport = HyperTransport::new(config).unwrap();
    for n in 0..2 {
        let answer = ask(&transport, "https://model.invalid:8443/").await.unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), format!("0.{n}"));
    }
    assert_eq!(proxy.n_connections(), 1);
}
