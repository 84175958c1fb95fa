//! Whether an executable is static: an ELF file without a program interpreter.
//!
//! Offsets and values are those of elf(5), for 64 bits and little endian, which all our targets
//! are.

const MAGIC: &[u8] = b"\x7fELF\x02\x01";
const PT_INTERP: u32 = 3;

/// `None` where `file` is no such ELF file, or is cut short.
pub(crate) fn is_static(file: &[u8]) -> Option<bool> {
    if !file.starts_with(MAGIC) {
        return None;
    }
    let offset = usize::try_from(u64::from_le_bytes(at(file, 32)?)).ok()?;
    let size = usize::from(u16::from_le_bytes(at(file, 54)?));
    let count = usize::from(u16::from_le_bytes(at(file, 56)?));
    for number in 0..count {
        let header = offset.checked_add(number * size)?;
        if u32::from_le_bytes(at(file, header)?) == PT_INTERP {
            return Some(false);
        }
    }
    Some(true)
}

fn at<const N: usize>(file: &[u8], offset: usize) -> Option<[u8; N]> {
    file.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file header and program headers of these types.
    fn file(types: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(MAGIC);
        file[32] = 64;
        file[54] = 56;
        file[56] = u8::try_from(types.len()).unwrap();
        for kind in types {
            file.extend(kind.to_le_bytes());
            file.extend([0; 52]);
        }
        file
    }

    #[test]
    fn an_interpreter_is_found() {
        assert_eq!(is_static(&file(&[6, 3, 1])), Some(false));
        assert_eq!(is_static(&file(&[6, 1])), Some(true));
    }

    #[test]
    fn damaged_files_are_no_answer() {
        assert_eq!(is_static(b"#!/bin/sh"), None);
        assert_eq!(is_static(&file(&[6, 1])[..70]), None);
        let mut beyond = file(&[1]);
        beyond[32..40].fill(0xff);
        assert_eq!(is_static(&beyond), None);
    }

    #[test]
    fn the_test_itself_is_dynamic() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(is_static(&file), Some(cfg!(target_feature = "crt-static")));
    }
}
