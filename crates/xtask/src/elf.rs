//! Reads an executable's program headers: whether it is static, and how much of it is loaded.
//!
//! Offsets and values are those of elf(5), for 64 bits and little endian, as all targets of
//! podspan are.

const MAGIC: &[u8] = b"\x7fELF\x02\x01";
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;

/// Whether there is no program interpreter. `None` where `file` is no such ELF file, or is truncated.
pub(crate) fn is_static(file: &[u8]) -> Option<bool> {
    let headers = program_headers(file)?;
    Some(headers.iter().all(|(kind, _)| *kind != PT_INTERP))
}

/// The machine that `file` is for, as `e_machine` names it. `None` where it is no such ELF file.
pub(crate) fn machine(file: &[u8]) -> Option<u16> {
    let is_elf = file.starts_with(MAGIC);
    is_elf.then(|| at(file, 18))?.map(u16::from_le_bytes)
}

/// The bytes of memory that it needs when all of it is resident. `None` as above.
pub(crate) fn loaded_bytes(file: &[u8]) -> Option<u64> {
    let headers = program_headers(file)?;
    let loaded = headers.iter().filter(|(kind, _)| *kind == PT_LOAD);
    loaded
        .map(|(_, bytes)| *bytes)
        .try_fold(0, u64::checked_add)
}

/// The type of each segment, and its bytes in memory.
fn program_headers(file: &[u8]) -> Option<Vec<(u32, u64)>> {
    if !file.starts_with(MAGIC) {
        return None;
    }
    let offset = usize::try_from(u64::from_le_bytes(at(file, 32)?)).ok()?;
    let size = usize::from(u16::from_le_bytes(at(file, 54)?));
    let count = usize::from(u16::from_le_bytes(at(file, 56)?));
    let header = |number: usize| {
        let header = offset.checked_add(number * size)?;
        let kind = u32::from_le_bytes(at(file, header)?);
        let bytes = u64::from_le_bytes(at(file, header.checked_add(40)?)?);
        Some((kind, bytes))
    };
    (0..count).map(header).collect()
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
            file.extend([0; 36]);
            file.extend(1000_u64.to_le_bytes());
            file.extend([0; 8]);
        }
        file
    }

    #[test]
    fn an_interpreter_is_found() {
        assert_eq!(is_static(&file(&[6, 3, 1])), Some(false));
        assert_eq!(is_static(&file(&[6, 1])), Some(true));
    }

    #[test]
    fn what_is_loaded_is_added_up() {
        assert_eq!(loaded_bytes(&file(&[6, 1, 1])), Some(2000));
        assert_eq!(loaded_bytes(&file(&[1])[..111]), None);
    }

    #[test]
    fn the_machine_is_found() {
        let mut arm = file(&[]);
        arm[18] = 183;
        assert_eq!(machine(&arm), Some(183));
        assert_eq!(machine(b"#!/bin/sh, and more than that"), None);
    }

    #[test]
    fn damaged_files_give_none() {
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
