use std::path::Path;

use half::{bf16, f16};
use proptest::prelude::*;
use safetensors::SafeTensors;

use super::*;

const PATH: &str = "model.safetensors";

/// A file with this header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..data).map(|byte| byte as u8));
    bytes
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<String, TensorEntry>> {
    parse_header(bytes, Path::new(PATH))
}

/// A valid file with three tensors of the three dtypes, written by the `safetensors` crate.
fn example() -> Vec<u8> {
    use safetensors::tensor::{Dtype, TensorView};
    let floats: Vec<u8> = [1.0_f32, -2.5, f32::MIN_POSITIVE, 1e30].iter().flat_map(|x| x.to_le_bytes()).collect();
    let halves: Vec<u8> = [0.1_f32, 65504.0, -6e-8].iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
    let brains: Vec<u8> =
        [0.1_f32, 3e38, -1e-40, 7.0, 0.0].iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
    let view = |dtype, shape: &[usize], data| TensorView::new(dtype, shape.to_vec(), data).expect("sizes agree");
    let tensors = [
        ("floats", view(Dtype::F32, &[2, 2], &floats)),
        ("halves", view(Dtype::F16, &[3], &halves)),
        ("brains", view(Dtype::BF16, &[5, 1], &brains)),
        ("empty", view(Dtype::F32, &[0, 7], &[])),
    ];
    safetensors::serialize(tensors, None).expect("the example is valid")
}

#[test]
fn reads_what_the_safetensors_crate_writes() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(PATH);
    std::fs::write(&path, example())?;
    let file = SafetensorsFile::open(&path)?;
    let read = |name: &str| file.values(&file.tensors()[name]).into_owned();
    assert_eq!(read("floats"), [1.0, -2.5, f32::MIN_POSITIVE, 1e30]);
    // What torch rounds 0.1 and so on to.
    assert_eq!(read("halves"), [0.099_975_586, 65504.0, -5.960_464_5e-8]);
    assert_eq!(read("brains"), [0.100_097_656, 3.004_055_3e38, -9.1835e-41, 7.0, 0.0]);
    assert_eq!(read("empty"), [0.0_f32; 0]);
    assert_eq!(file.tensors()["empty"].shape, [0, 7]);
    assert_eq!(file.tensors()["brains"].dtype, DType::Bf16);
    assert!(matches!(file.values(&file.tensors()["floats"]), Cow::Borrowed(_)));
    Ok(())
}

#[test]
fn unaligned_values_are_copied_and_equal() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    for padding in 0..4 {
        let header = format!(r#"{{"x":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}{}"#, " ".repeat(padding));
        let mut bytes = file(&header, 0);
        bytes.extend([1.5_f32, -3.25].iter().flat_map(|x| x.to_le_bytes()));
        let path = folder.path().join(format!("{padding}.safetensors"));
        std::fs::write(&path, bytes)?;
        let file = SafetensorsFile::open(&path)?;
        let values = file.values(&file.tensors()["x"]);
        assert_eq!(*values, [1.5, -3.25]);
        let aligned = (8 + header.len()).is_multiple_of(4);
        assert_eq!(matches!(values, Cow::Borrowed(_)), aligned && cfg!(target_endian = "little"));
    }
    Ok(())
}

#[test]
fn the_safetensors_crate_reads_what_we_write() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(PATH);
    let first = [1.0_f32, 2.0, 3.0, f32::NAN, -0.0, f32::INFINITY];
    let second = [0.5_f32];
    write(&path, &[("b".to_owned(), vec![2, 3], &first), ("a".to_owned(), vec![1], &second)])?;
    let bytes = std::fs::read(&path)?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
    assert_eq!(metadata.metadata().as_ref().and_then(|m| m.get("format")).map(String::as_str), Some("pt"));
    let tensors = SafeTensors::deserialize(&bytes)?;
    assert_eq!(tensors.tensor("b")?.shape(), [2, 3]);
    assert_eq!(tensors.tensor("b")?.data(), bytemuck::cast_slice::<f32, u8>(&first));
    assert_eq!(tensors.tensor("a")?.data(), second[0].to_le_bytes());
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
    // What a reader may map without copying.
    let file = SafetensorsFile::open(&path)?;
    assert!(file.tensors().values().all(|entry| entry.bytes.start.is_multiple_of(4)));
    Ok(())
}

#[test]
fn a_failed_write_leaves_what_was_there() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(PATH);
    std::fs::write(&path, "before")?;
    let full = || Err(std::io::Error::other("no space left on device"));
    let error = crate::atomic_file::write(&path, |file| file.write_all(b"half").and_then(|()| full())).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: cannot write", path.display()));
    assert_eq!(std::fs::read(&path)?, b"before");
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
    Ok(())
}

#[test]
fn damage_is_named() {
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let x = |dtype: &str, shape: &str, offsets: &str| format!(r#"{{"x":{}}}"#, entry(dtype, shape, offsets));
    let two = |first: &str, second: &str| {
        format!(r#"{{"x":{},"y":{}}}"#, entry("F32", "[1]", first), entry("F32", "[1]", second))
    };
    for (bytes, message) in [
        (vec![], "not a valid safetensors file: expected at least 8 bytes, found 0"),
        (
            vec![0xFF; 8],
            "not a valid safetensors file: header of 18446744073709551615 bytes, expected at most 100000000",
        ),
        (file("{}", 0)[..9].to_vec(), "not a valid safetensors file: truncated: header of 2 bytes, found 1"),
        (file("[]", 0), "not a valid safetensors file: header does not start with `{`"),
        (
            file("{\"x\":", 0),
            "not a valid safetensors file: header is not valid: `x`: EOF while parsing a value at line 1 column 5",
        ),
        (
            file(&format!(r#"{{"x":{0},"x":{0}}}"#, entry("F32", "[1]", "[0,4]")), 4),
            "not a valid safetensors file: header is not valid: `x` is given twice at line 1 column 57",
        ),
        (file(&x("I64", "[1]", "[0,8]"), 8), "tensor `x`: expected dtype F32, F16 or BF16, found I64"),
        (file(&x("F32", "[1]", "[4,0]"), 4), "tensor `x`: expected data_offsets in order, found [4, 0]"),
        (
            file(&x("F32", "[2]", "[0,8]"), 7),
            "tensor `x`: expected bytes 0 to 8, found 7 bytes in all: the file is truncated or its offsets are wrong",
        ),
        (file(&x("F32", "[3]", "[0,8]"), 8), "tensor `x`: expected 12 bytes of F32 for shape [3], found 8"),
        (
            file(&x("F32", "[4294967296,4294967296]", "[0,8]"), 8),
            "tensor `x`: expected too many bytes of F32 for shape [4294967296, 4294967296], found 8",
        ),
        (
            file(&two("[0,4]", "[2,6]"), 6),
            "tensor `y`: expected data from byte 4, found 2: it overlaps the tensor before it",
        ),
        (file(&two("[0,4]", "[5,9]"), 9), "tensor `y`: expected data from byte 4, found 5: it leaves a gap before it"),
        (file(&x("F32", "[1]", "[0,4]"), 6), "not a valid safetensors file: tensors take 4 bytes, found 6"),
    ] {
        let found = parse(&bytes).unwrap_err().to_string();
        assert_eq!(found, format!("{PATH}: {message}"));
    }
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = example();
    assert!(parse(&bytes).is_ok());
    for end in 0..bytes.len() {
        assert!(parse(&bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
    }
}

/// Where we accept a file, the reference reader must accept it with the same tensors.
fn agrees_with_the_safetensors_crate(bytes: &[u8]) -> std::result::Result<(), TestCaseError> {
    let Ok(ours) = parse(bytes) else { return Ok(()) };
    let theirs = SafeTensors::deserialize(bytes);
    prop_assert!(theirs.is_ok(), "we accept what the safetensors crate refuses: {:?}", theirs.err());
    let theirs = theirs.map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(ours.len(), theirs.len());
    for (name, entry) in ours {
        let tensor = theirs.tensor(&name).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(&bytes[entry.bytes], tensor.data());
        prop_assert_eq!(entry.shape, tensor.shape());
        prop_assert_eq!(entry.dtype.to_string(), tensor.dtype().to_string());
    }
    Ok(())
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        agrees_with_the_safetensors_crate(&bytes)?;
    }

    #[test]
    fn random_headers_never_panic(text in "[{}\\[\\]\",:a-z0-9]{0,80}") {
        agrees_with_the_safetensors_crate(&file(&text, 8))?;
    }

    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = example();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        agrees_with_the_safetensors_crate(&bytes)?;
    }

    #[test]
    fn random_entries_never_panic(
        entries in prop::collection::btree_map("[a-c]", (0_u64..5, 0_u64..5, 0_u64..20, 0_u64..24), 0..3),
        data in 0_usize..24,
    ) {
        let entries: Vec<_> = entries
            .iter()
            .map(|(name, (rows, columns, begin, end))| {
                format!(r#""{name}":{{"dtype":"F32","shape":[{rows},{columns}],"data_offsets":[{begin},{end}]}}"#)
            })
            .collect();
        agrees_with_the_safetensors_crate(&file(&format!("{{{}}}", entries.join(",")), data))?;
    }
}
