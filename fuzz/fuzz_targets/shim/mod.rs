// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nine functions of the C library. libFuzzer's own versions look up the real
//! ones with `dlsym`, which a static program cannot; where these are defined,
//! libFuzzer's are not linked. Reads are volatile, else the compiler makes a
//! loop a call of the very function it is in.

use std::ffi::{c_char, c_int, c_void};

/// # Safety
/// `at` is valid for reads of `index + 1` bytes.
unsafe fn byte(at: *const c_void, index: usize) -> u8 {
    // SAFETY: by the caller's word.
    unsafe { at.cast::<u8>().add(index).read_volatile() }
}

/// # Safety
/// `text` ends with NUL.
unsafe fn length(text: *const c_char) -> usize {
    let mut length = 0;
    // SAFETY: no further than the NUL.
    while unsafe { byte(text.cast(), length) } != 0 {
        length += 1;
    }
    length
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(first: *const c_void, second: *const c_void, size: usize) -> c_int {
    for index in 0..size {
        // SAFETY: both are valid for `size` bytes, as C has it.
        let (a, b) = unsafe { (byte(first, index), byte(second, index)) };
        if a != b {
            return c_int::from(a) - c_int::from(b);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(first: *const c_void, second: *const c_void, size: usize) -> c_int {
    // SAFETY: the same contract.
    unsafe { memcmp(first, second, size) }
}

/// # Safety
/// Both end with NUL, or are valid for `most` bytes.
unsafe fn compare(
    first: *const c_char,
    second: *const c_char,
    most: usize,
    fold: fn(u8) -> u8,
) -> c_int {
    for index in 0..most {
        // SAFETY: no further than the first NUL.
        let (a, b) = unsafe { (byte(first.cast(), index), byte(second.cast(), index)) };
        let (a, b) = (fold(a), fold(b));
        if a != b || a == 0 {
            return c_int::from(a) - c_int::from(b);
        }
    }
    0
}

fn same(byte: u8) -> u8 {
    byte
}

fn lower(byte: u8) -> u8 {
    byte.to_ascii_lowercase()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strcmp(first: *const c_char, second: *const c_char) -> c_int {
    // SAFETY: the same contract.
    unsafe { compare(first, second, usize::MAX, same) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strncmp(first: *const c_char, second: *const c_char, most: usize) -> c_int {
    // SAFETY: the same contract.
    unsafe { compare(first, second, most, same) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strcasecmp(first: *const c_char, second: *const c_char) -> c_int {
    // SAFETY: the same contract.
    unsafe { compare(first, second, usize::MAX, lower) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strncasecmp(
    first: *const c_char,
    second: *const c_char,
    most: usize,
) -> c_int {
    // SAFETY: the same contract.
    unsafe { compare(first, second, most, lower) }
}

/// # Safety
/// The memory is valid for its size.
unsafe fn find(
    hay: *const c_void,
    hay_size: usize,
    needle: *const c_void,
    needle_size: usize,
    fold: fn(u8) -> u8,
) -> *mut c_void {
    for start in 0..=hay_size.wrapping_sub(needle_size) {
        if needle_size > hay_size {
            break;
        }
        // SAFETY: start + needle_size is within the hay.
        let matches = (0..needle_size)
            .all(|index| unsafe { fold(byte(hay, start + index)) == fold(byte(needle, index)) });
        if matches {
            // SAFETY: within the hay.
            return unsafe { hay.cast::<u8>().add(start) }.cast_mut().cast();
        }
    }
    std::ptr::null_mut()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmem(
    hay: *const c_void,
    hay_size: usize,
    needle: *const c_void,
    needle_size: usize,
) -> *mut c_void {
    // SAFETY: the same contract.
    unsafe { find(hay, hay_size, needle, needle_size, same) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strstr(hay: *const c_char, needle: *const c_char) -> *mut c_char {
    // SAFETY: both end with NUL.
    unsafe { find(hay.cast(), length(hay), needle.cast(), length(needle), same).cast() }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strcasestr(hay: *const c_char, needle: *const c_char) -> *mut c_char {
    // SAFETY: both end with NUL.
    unsafe { find(hay.cast(), length(hay), needle.cast(), length(needle), lower).cast() }
}
