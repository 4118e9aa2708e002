//! Images and files as both interfaces send them.

use crate::base64_bytes;
use crate::message::{Media, MediaSource};

/// Where the content is: its address, or the bytes as an address that holds them. `None`: uploaded before.
pub(super) fn url(media: &Media) -> Option<String> {
    match &media.source {
        MediaSource::Url(url) => Some(url.clone()),
        MediaSource::Bytes(bytes) => Some(format!("data:{};base64,{}", media.media_type, base64_bytes::encode(bytes))),
        MediaSource::Id(_) => None,
    }
}

/// OpenAI's word for the form of a sound; `None` for what is no sound.
pub(super) fn audio_format(media_type: &str) -> Option<&str> {
    Some(match media_type.strip_prefix("audio/")? {
        "mpeg" | "mp3" => "mp3",
        "wav" | "x-wav" | "wave" | "vnd.wave" => "wav",
        other => other,
    })
}

/// The bytes in base64, without the form of an address.
pub(super) fn base64(media: &Media) -> Option<String> {
    match &media.source {
        MediaSource::Bytes(bytes) => Some(base64_bytes::encode(bytes)),
        MediaSource::Url(_) | MediaSource::Id(_) => None,
    }
}

/// Under which id it was uploaded.
pub(super) fn id(media: &Media) -> Option<&str> {
    match &media.source {
        MediaSource::Id(id) => Some(id),
        MediaSource::Bytes(_) | MediaSource::Url(_) => None,
    }
}
