// SPDX-License-Identifier: MIT OR Apache-2.0
//! What lies where in the scratch map: one value that all programs of a worker write to
//! and the executor has mapped, in the order of the offsets.

/// Bytes of the scratch map's value.
pub const SCRATCH: u32 = 16 << 10;
/// Where in the scratch map the runs are counted.
pub const RUNS: usize = 0;
/// Where in the scratch map it is counted how often programs began to write a stack to
/// [`BUFFER`] or to a map in other threads than the one whose stacks are judged.
pub const FOREIGN: usize = 8;
/// Where in the scratch map a stack map is noted by its descriptor when
/// `bpf_get_stackid()` finds no free bucket in it.
pub const NO_BUCKET: usize = 16;
/// Where in the scratch map the last id that `bpf_get_stackid()` answered is noted,
/// if it compared whole stacks: with `BPF_F_FAST_STACK_CMP` an old one may stand for it.
pub const STACK_ID: usize = 24;
/// Where in the scratch map the map of [`STACK_ID`] is noted, by its descriptor.
pub const STACK_MAP: usize = 32;
/// Where in the scratch map it is counted how often what [`FOREIGN`] counts was done.
pub const FOREIGN_DONE: usize = 40;
/// Where in the scratch map it is counted how often `bpf_find_vma()` found a mapping
/// that does not hold the address.
pub const WRONG_VMA: usize = 48;
/// Where in the scratch map it is counted how often programs began to ask for a stack,
/// or for its addresses and then for the same stack in another form.
pub const PAIRS: usize = 56;
/// Where in the scratch map the indices of the dispatchers lie: read from memory, so
/// that the verifier does not make direct jumps of them, which would have to be patched,
/// with interrupts to all CPUs, at each change.
pub const INDICES: usize = 64;
/// Where in the scratch map it is noted what the addresses at [`ADDRESSES`] are those of:
/// [`OF_STACK`] or [`OF_STACKID`], or 0 if another program asked in between.
pub const ADDRESSES_OF: usize = 96;
/// Of what `bpf_get_stack()` wrote to [`BUFFER`].
pub const OF_STACK: u64 = 1;
/// Of what lies under the id that `bpf_get_stackid()` answered.
pub const OF_STACKID: u64 = 2;
/// Where in the scratch map it is noted how many bytes of them there are, or the errno.
pub const ADDRESSES_LENGTH: usize = 104;
/// Where in the scratch map it is noted how many bytes of a stack there was no room for, by
/// what the helper answered; mostly a number below zero.
pub const EXCESS: usize = 112;
/// Where in the scratch map that stays if it is above zero.
pub const TOO_LONG: usize = EXCESS + 8;
/// Where in the scratch map the addresses of a stack are written to.
pub const ADDRESSES: usize = 2048;
/// Bytes of them: sixteen frames, as many as a stack map has.
pub const ADDRESSES_ROOM: i32 = 128;
/// Where in the scratch map stacks are written to.
pub const BUFFER: usize = 4096;
/// Where in the scratch map memory is read to: 64 bytes.
pub const READ_BUFFER: i32 = 8192;
/// Where in the scratch map the check of ring buffers has its program note something.
pub const NOTES: usize = READ_BUFFER as usize + 128;
/// Where in the scratch map stacks are written to as addresses, 4096 bytes at most. Apart
/// from [`BUFFER`], whose words are judged as build ids: among addresses, which may be any
/// words where a stack is none, some look like the status and the build id of an entry.
pub const RAW_BUFFER: usize = 9216;
