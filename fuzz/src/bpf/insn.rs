// SPDX-License-Identifier: MIT OR Apache-2.0
//! eBPF instructions and an assembler with labels.
//!
//! Encodings: the kernel's `Documentation/bpf/standardization/instruction-set.rst`.

use std::collections::BTreeMap;
use std::fmt;

use Reg::{R0, R10};

/// One eBPF instruction, as the kernel takes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Insn {
    /// Class and operation.
    pub code: u8,
    /// Destination in the low nibble, source in the high one.
    pub registers: u8,
    /// Displacement, or distance of a jump.
    pub offset: i16,
    /// Constant.
    pub immediate: i32,
}

/// `BPF_PSEUDO_FUNC`, in the place of a long load's source: its constant is the distance
/// to a function that a helper is to call.
pub const FUNCTION: u8 = 4;

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reg {
    /// What a helper or the program answers.
    R0,
    /// First argument; R1 to R5 do not survive a call.
    R1,
    R2,
    R3,
    R4,
    R5,
    /// R6 to R9 survive a call.
    R6,
    R7,
    R8,
    R9,
    /// Top of the stack, read-only.
    R10,
}

/// Width of an access to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 4 bytes.
    Word,
    /// 8 bytes.
    Double,
}

impl Width {
    fn code(self) -> u8 {
        match self {
            Self::Word => 0x00,
            Self::Double => 0x18,
        }
    }
}

/// The second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// A constant, sign-extended.
    Imm(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Self::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(imm: i32) -> Self {
        Self::Imm(imm)
    }
}

/// Arithmetic on 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Alu {
    Add,
    Subtract,
    And,
    ShiftLeft,
    Move,
}

impl Alu {
    fn code(self) -> u8 {
        match self {
            Self::Add => 0x00,
            Self::Subtract => 0x10,
            Self::And => 0x50,
            Self::ShiftLeft => 0x60,
            Self::Move => 0xb0,
        }
    }
}

/// Condition of a jump, on 64 bits, unsigned where that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cond {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>=`, unsigned
    AtLeast,
}

impl Cond {
    fn code(self) -> u8 {
        match self {
            Self::Equal => 0x10,
            Self::NotEqual => 0x50,
            Self::AtLeast => 0x30,
        }
    }
}

/// Helper functions by their number in `enum bpf_func_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Helper {
    MapLookupElem = 1,
    KtimeGetNs = 5,
    GetSmpProcessorId = 8,
    GetCurrentPidTgid = 14,
    GetStackid = 27,
    GetCurrentTask = 35,
    GetStack = 67,
    ProbeReadKernel = 113,
    GetTaskStack = 141,
    GetCurrentTaskBtf = 158,
}

/// A program that cannot be assembled: our error, found by the tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsmError {
    /// A jump to a label that stands nowhere.
    UnknownLabel(&'static str),
    /// The same label twice.
    DuplicateLabel(&'static str),
    /// A jump of more than 32,767 instructions.
    TooFar(&'static str),
}

impl fmt::Display for AsmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownLabel(label) => write!(f, "no such label in the BPF program: {label}"),
            Self::DuplicateLabel(label) => {
                write!(f, "a label stands twice in the BPF program: {label}")
            }
            Self::TooFar(label) => write!(f, "a jump in the BPF program is too far: {label}"),
        }
    }
}

impl std::error::Error for AsmError {}

/// Builds a program from top to bottom.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    insns: Vec<Insn>,
    labels: BTreeMap<&'static str, usize>,
    jumps: Vec<(usize, &'static str)>,
    duplicate: Option<&'static str>,
}

impl Assembler {
    /// An empty program.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn push(&mut self, code: u8, dst: Reg, src: Reg, offset: i16, immediate: i32) -> &mut Self {
        self.insns.push(Insn { code, registers: dst as u8 | (src as u8) << 4, offset, immediate });
        self
    }

    /// Names the place of the next instruction.
    pub fn label(&mut self, name: &'static str) -> &mut Self {
        if self.labels.insert(name, self.insns.len()).is_some() {
            self.duplicate = Some(name);
        }
        self
    }

    /// `dst = dst OP operand` on 64 bits (`Move`: `dst = operand`).
    pub fn alu(&mut self, op: Alu, dst: Reg, operand: impl Into<Operand>) -> &mut Self {
        match operand.into() {
            Operand::Imm(imm) => self.push(0x07 | op.code(), dst, R0, 0, imm),
            Operand::Reg(src) => self.push(0x0f | op.code(), dst, src, 0, 0),
        }
    }

    /// `dst = operand`
    pub fn mov(&mut self, dst: Reg, operand: impl Into<Operand>) -> &mut Self {
        self.alu(Alu::Move, dst, operand)
    }

    /// `dst = (u32) dst`
    pub fn truncate(&mut self, dst: Reg) -> &mut Self {
        self.push(0x0c | Alu::Move.code(), dst, dst, 0, 0)
    }

    /// `dst = operand + offset`: the address of something on the stack, mostly.
    pub fn address(&mut self, dst: Reg, base: Reg, offset: i32) -> &mut Self {
        self.mov(dst, base).alu(Alu::Add, dst, offset)
    }

    /// `dst = *(base + offset)`
    pub fn load(&mut self, width: Width, dst: Reg, base: Reg, offset: i16) -> &mut Self {
        self.push(0x61 | width.code(), dst, base, offset, 0)
    }

    /// `*(base + offset) = operand`
    pub fn store(
        &mut self,
        width: Width,
        base: Reg,
        offset: i16,
        operand: impl Into<Operand>,
    ) -> &mut Self {
        match operand.into() {
            Operand::Imm(imm) => self.push(0x62 | width.code(), base, R0, offset, imm),
            Operand::Reg(src) => self.push(0x63 | width.code(), base, src, offset, 0),
        }
    }

    /// `*(u64 *)(base + offset) += 1`, through `scratch`. Not atomic: for
    /// counters that one pinned thread owns.
    pub fn increment(&mut self, base: Reg, offset: i16, scratch: Reg) -> &mut Self {
        self.load(Width::Double, scratch, base, offset).alu(Alu::Add, scratch, 1).store(
            Width::Double,
            base,
            offset,
            scratch,
        )
    }

    fn load_wide(&mut self, dst: Reg, kind: u8, low: u32, high: u32) -> &mut Self {
        self.insns.push(Insn {
            code: 0x18,
            registers: dst as u8 | kind << 4,
            offset: 0,
            immediate: low.cast_signed(),
        });
        self.insns.push(Insn { immediate: high.cast_signed(), ..Insn::default() });
        self
    }

    /// `dst = value`, all 64 bits.
    #[allow(clippy::cast_possible_truncation)] // that is how it is encoded
    pub fn load_u64(&mut self, dst: Reg, value: u64) -> &mut Self {
        self.load_wide(dst, 0, value as u32, (value >> 32) as u32)
    }

    /// `dst = map`, for helpers that take one.
    pub fn load_map(&mut self, dst: Reg, map_fd: i32) -> &mut Self {
        self.load_wide(dst, 1, map_fd.cast_unsigned(), 0)
    }

    /// `dst = &map[0]`, of an array map with one entry.
    pub fn load_map_value(&mut self, dst: Reg, map_fd: i32) -> &mut Self {
        self.load_wide(dst, 2, map_fd.cast_unsigned(), 0)
    }

    /// Goes on at `label`.
    pub fn jump(&mut self, label: &'static str) -> &mut Self {
        self.jumps.push((self.insns.len(), label));
        self.push(0x05, R0, R0, 0, 0)
    }

    /// Goes on at `label` where the condition holds.
    pub fn jump_if(
        &mut self,
        cond: Cond,
        left: Reg,
        right: impl Into<Operand>,
        label: &'static str,
    ) -> &mut Self {
        self.jumps.push((self.insns.len(), label));
        match right.into() {
            Operand::Imm(imm) => self.push(0x05 | cond.code(), left, R0, 0, imm),
            Operand::Reg(src) => self.push(0x0d | cond.code(), left, src, 0, 0),
        }
    }

    /// Calls a helper: arguments in R1 to R5, answer in R0.
    pub fn call(&mut self, helper: Helper) -> &mut Self {
        self.push(0x85, R0, R0, 0, helper as i32)
    }

    /// Ends the program with 0: an event's output is then dropped at once.
    pub fn exit(&mut self) -> &mut Self {
        self.mov(R0, 0).push(0x95, R0, R0, 0, 0)
    }

    /// Resolves the labels.
    pub fn finish(&self) -> Result<Vec<Insn>, AsmError> {
        if let Some(label) = self.duplicate {
            return Err(AsmError::DuplicateLabel(label));
        }
        let mut insns = self.insns.clone();
        for (at, label) in &self.jumps {
            let target = *self.labels.get(label).ok_or(AsmError::UnknownLabel(label))?;
            let distance = target.cast_signed() - at.cast_signed() - 1;
            insns[*at].offset = i16::try_from(distance).map_err(|_| AsmError::TooFar(label))?;
        }
        Ok(insns)
    }
}

/// The stack's top, where programs keep what helpers write to.
pub const STACK: Reg = R10;

/// Instructions one after the other, with jumps that land where the next one begins: for
/// programs that are made of pieces. Fixed ones are written with [`Assembler`].
#[derive(Clone, Debug, Default)]
pub struct Short {
    /// The instructions so far.
    pub insns: Vec<Insn>,
}

impl Short {
    /// Adds an instruction; its place is the answer.
    pub fn push(&mut self, code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> usize {
        self.insns.push(Insn { code, registers: dst | src << 4, offset, immediate });
        self.insns.len() - 1
    }

    /// `dst = src`
    pub fn mov(&mut self, dst: u8, src: u8) {
        self.push(0xbf, dst, src, 0, 0);
    }

    /// `dst = value`
    pub fn mov_imm(&mut self, dst: u8, value: i32) {
        self.push(0xb7, dst, 0, 0, value);
    }

    /// `dst += value`
    pub fn add_imm(&mut self, dst: u8, value: i32) {
        self.push(0x07, dst, 0, 0, value);
    }

    /// Calls a helper.
    pub fn call(&mut self, helper: i32) {
        self.push(0x85, 0, 0, 0, helper);
    }

    /// Kinds: 0 a constant, 1 a map, 2 a map's value at an offset, [`FUNCTION`].
    pub fn load_wide(&mut self, dst: u8, kind: u8, low: i32, high: i32) {
        self.push(0x18, dst, kind, 0, low);
        self.push(0, 0, 0, 0, high);
    }

    /// `dst = r10 + offset`
    pub fn stack(&mut self, dst: u8, offset: i32) {
        self.mov(dst, 10);
        self.add_imm(dst, offset);
    }

    /// A jump whose distance is not known yet.
    pub fn jump_if(&mut self, code: u8, dst: u8, immediate: i32) -> usize {
        self.push(code, dst, 0, 0, immediate)
    }

    /// Has a jump go to the next instruction.
    pub fn land(&mut self, jump: usize) {
        let distance = i16::try_from(self.insns.len() - jump - 1).unwrap_or(i16::MAX);
        if let Some(insn) = self.insns.get_mut(jump) {
            insn.offset = distance;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reg::{R1, R2, R3, R6, R9};
    use super::*;

    fn bytes(asm: &Assembler) -> Vec<[u8; 8]> {
        asm.finish()
            .unwrap()
            .iter()
            .map(|insn| {
                let mut out = [0; 8];
                out[0] = insn.code;
                out[1] = insn.registers;
                out[2..4].copy_from_slice(&insn.offset.to_le_bytes());
                out[4..].copy_from_slice(&insn.immediate.to_le_bytes());
                out
            })
            .collect()
    }

    /// Encodings as `clang -target bpf` and the standard have them.
    #[test]
    fn encodings() {
        let mut asm = Assembler::new();
        asm.mov(R6, R1) // r6 = r1
            .mov(R0, -1) // r0 = -1
            .truncate(R0) // w0 = w0
            .alu(Alu::Add, R2, -8) // r2 += -8
            .alu(Alu::And, R3, R2) // r3 &= r2
            .alu(Alu::ShiftLeft, R1, 3) // r1 <<= 3
            .alu(Alu::Subtract, R0, R1) // r0 -= r1
            .load(Width::Double, R1, R6, 8) // r1 = *(u64 *)(r6 + 8)
            .load(Width::Word, R1, R6, 4) // r1 = *(u32 *)(r6 + 4)
            .store(Width::Double, R10, -8, R9) // *(u64 *)(r10 - 8) = r9
            .store(Width::Word, R10, -4, 7) // *(u32 *)(r10 - 4) = 7
            .call(Helper::GetStack)
            .load_map(R1, 5)
            .load_u64(R2, 0xffff_8000_1234_5678)
            .exit();
        assert_eq!(
            bytes(&asm),
            [
                [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
                [0xb7, 0x00, 0, 0, 0xff, 0xff, 0xff, 0xff],
                [0xbc, 0x00, 0, 0, 0, 0, 0, 0],
                [0x07, 0x02, 0, 0, 0xf8, 0xff, 0xff, 0xff],
                [0x5f, 0x23, 0, 0, 0, 0, 0, 0],
                [0x67, 0x01, 0, 0, 3, 0, 0, 0],
                [0x1f, 0x10, 0, 0, 0, 0, 0, 0],
                [0x79, 0x61, 8, 0, 0, 0, 0, 0],
                [0x61, 0x61, 4, 0, 0, 0, 0, 0],
                [0x7b, 0x9a, 0xf8, 0xff, 0, 0, 0, 0],
                [0x62, 0x0a, 0xfc, 0xff, 7, 0, 0, 0],
                [0x85, 0x00, 0, 0, 67, 0, 0, 0],
                [0x18, 0x11, 0, 0, 5, 0, 0, 0],
                [0x00, 0x00, 0, 0, 0, 0, 0, 0],
                [0x18, 0x02, 0, 0, 0x78, 0x56, 0x34, 0x12],
                [0x00, 0x00, 0, 0, 0x00, 0x80, 0xff, 0xff],
                [0xb7, 0x00, 0, 0, 0, 0, 0, 0],
                [0x95, 0x00, 0, 0, 0, 0, 0, 0],
            ]
        );
    }

    /// Jumps count from the next instruction, forwards and backwards, and a
    /// 64-bit constant counts as two.
    #[test]
    fn jumps_reach_their_labels() {
        let mut asm = Assembler::new();
        asm.label("again")
            .jump_if(Cond::Equal, R1, 0, "out")
            .load_u64(R2, 1)
            .jump_if(Cond::NotEqual, R1, R2, "again")
            .jump("again")
            .label("out")
            .exit();
        let insns = asm.finish().unwrap();
        assert_eq!(insns[0].offset, 4);
        assert_eq!((insns[3].code, insns[3].offset), (0x5d, -4));
        assert_eq!((insns[4].code, insns[4].offset), (0x05, -5));
    }

    /// A program with a hole in it is refused, by name.
    #[test]
    fn bad_labels_are_named() {
        let mut asm = Assembler::new();
        asm.jump("nowhere");
        assert_eq!(asm.finish(), Err(AsmError::UnknownLabel("nowhere")));
        let mut asm = Assembler::new();
        asm.label("here").exit().label("here");
        assert_eq!(asm.finish(), Err(AsmError::DuplicateLabel("here")));
        let mut asm = Assembler::new();
        asm.jump("far");
        for _ in 0..20_000 {
            asm.exit();
        }
        asm.label("far").exit();
        assert_eq!(asm.finish(), Err(AsmError::TooFar("far")));
    }
}
