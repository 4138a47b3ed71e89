// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of operations: small types, each of which can be rolled,
//! written, read back, brought into range and tweaked.
//!
//! A value's written form has no space, `:`, `;`, `=` or newline, so that
//! operations and BPF steps can use them to hold fields apart.

/// Where chance comes from: fuzzer input, or a seeded generator.
pub trait Dice {
    /// A number below `n`; 0 if `n` is 0 or the input is used up.
    fn below(&mut self, n: u32) -> u32;
}

/// A seeded generator (SplitMix64, Steele et al. 2014): the same programs for
/// the same seed, everywhere.
#[derive(Clone, Debug)]
pub struct Seeded(pub u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Dice for Seeded {
    #[allow(clippy::cast_possible_truncation)] // the high half times n, shifted back: below n
    fn below(&mut self, n: u32) -> u32 {
        (((self.next() >> 32) * u64::from(n)) >> 32) as u32
    }
}

/// Dice whose first throws are the digits of a small number, as long as it has any, and whose
/// other throws are a generator's: by the same number the first choices are the same.
#[derive(Clone, Debug)]
pub struct Digits {
    number: u32,
    /// The numbers that there may be.
    span: u32,
    rest: Seeded,
}

impl Digits {
    /// By a number and a seed.
    #[must_use]
    pub fn new(number: u8, rest: Seeded) -> Self {
        Self { number: number.into(), span: 1 << u8::BITS, rest }
    }
}

impl Dice for Digits {
    fn below(&mut self, n: u32) -> u32 {
        if n > self.span {
            self.span = 0;
            return self.rest.below(n);
        }
        let base = n.max(1);
        let digit = self.number % base;
        self.number /= base;
        self.span /= base;
        digit
    }
}

/// Bytes of a fuzzer as dice.
#[derive(Debug)]
pub struct Input<'a, 'b>(pub &'a mut arbitrary::Unstructured<'b>);

impl Dice for Input<'_, '_> {
    fn below(&mut self, n: u32) -> u32 {
        if n < 2 {
            return 0;
        }
        self.0.int_in_range(0..=n - 1).unwrap_or(0)
    }
}

/// How many resources of each kind the operations so far have made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Perf events.
    pub events: u8,
    /// BPF maps.
    pub maps: u8,
    /// BPF programs.
    pub progs: u8,
    /// BPF links.
    pub links: u8,
}

/// An argument of an operation.
pub trait Value: Sized {
    /// Any legal value.
    fn roll(dice: &mut dyn Dice) -> Self;
    /// Appends the written form.
    fn write(&self, out: &mut String);
    /// Reads the written form.
    fn parse(text: &str) -> Option<Self>;
    /// Brings the value into range; false if there is no legal value, because
    /// nothing was made yet that it could refer to.
    fn fix(&mut self, made: &Made) -> bool;
    /// Another value, near this one where nearness means something.
    fn tweak(&mut self, dice: &mut dyn Dice) {
        *self = Self::roll(dice);
    }
}

/// A number up to and including `MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Upto<const MAX: u8>(pub u8);

impl<const MAX: u8> Value for Upto<MAX> {
    #[allow(clippy::cast_possible_truncation)] // below 256
    fn roll(dice: &mut dyn Dice) -> Self {
        Self(dice.below(u32::from(MAX) + 1) as u8)
    }

    fn write(&self, out: &mut String) {
        out.push_str(&self.0.to_string());
    }

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    fn fix(&mut self, _: &Made) -> bool {
        if self.0 > MAX {
            self.0 %= MAX + 1;
        }
        true
    }

    fn tweak(&mut self, dice: &mut dyn Dice) {
        match dice.below(3) {
            0 => self.0 = self.0.saturating_add(1).min(MAX),
            1 => self.0 = self.0.saturating_sub(1),
            _ => *self = Self::roll(dice),
        }
    }
}

/// References: the n-th resource of a kind that the program makes.
macro_rules! references {
    ($($(#[$doc:meta])* $name:ident of $kind:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name(pub u8);

        impl Value for $name {
            #[allow(clippy::cast_possible_truncation)] // below 4
            fn roll(dice: &mut dyn Dice) -> Self {
                Self(dice.below(4) as u8)
            }

            fn write(&self, out: &mut String) {
                out.push_str(&self.0.to_string());
            }

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok().map(Self)
            }

            fn fix(&mut self, made: &Made) -> bool {
                let Some(fixed) = self.0.checked_rem(made.$kind) else { return false };
                self.0 = fixed;
                true
            }
        }
    )*};
}

references! {
    /// A perf event.
    EventRef of events;
    /// A BPF map.
    MapRef of maps;
    /// A BPF program.
    ProgRef of progs;
    /// A BPF link.
    LinkRef of links;
}

/// A reference that may be to nothing: written `-`.
impl<T: Value> Value for Option<T> {
    fn roll(dice: &mut dyn Dice) -> Self {
        (dice.below(3) == 0).then(|| T::roll(dice))
    }

    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push('-'),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "-" { Some(None) } else { T::parse(text).map(Some) }
    }

    fn fix(&mut self, made: &Made) -> bool {
        if self.as_mut().is_some_and(|value| !value.fix(made)) {
            *self = None;
        }
        true
    }
}

/// Up to eight values, written with commas; `-` is none.
impl<T: Value> Value for Vec<T> {
    fn roll(dice: &mut dyn Dice) -> Self {
        (0..dice.below(5)).map(|_| T::roll(dice)).collect()
    }

    fn write(&self, out: &mut String) {
        if self.is_empty() {
            out.push('-');
        }
        for (index, value) in self.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            value.write(out);
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "-" {
            return Some(Vec::new());
        }
        text.split(',').map(T::parse).collect()
    }

    fn fix(&mut self, made: &Made) -> bool {
        self.retain_mut(|value| value.fix(made));
        self.truncate(8);
        true
    }

    fn tweak(&mut self, dice: &mut dyn Dice) {
        let at = dice.below(u32::try_from(self.len()).unwrap_or(0)) as usize;
        match dice.below(3) {
            0 => self.push(T::roll(dice)),
            1 if !self.is_empty() => drop(self.remove(at)),
            _ => match self.get_mut(at) {
                Some(value) => value.tweak(dice),
                None => self.push(T::roll(dice)),
            },
        }
    }
}

/// Enumerations: one word each, and `* N` behind those that are rolled N times as often as
/// the others.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident {
        $($(#[$vdoc:meta])* $variant:ident $word:literal $(* $weight:literal)?,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* #[doc = concat!("`", $word, "`")] $variant,)* }

        impl $name {
            /// All of them, in the order of the source.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// How often it is rolled, where most are once.
            fn weight(self) -> u32 {
                match self { $(Self::$variant => 1 $(* $weight)?),* }
            }

            /// The written form.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl $crate::op::value::Value for $name {
            fn roll(dice: &mut dyn $crate::op::value::Dice) -> Self {
                let mut at = dice.below(Self::ALL.iter().map(|value| value.weight()).sum());
                for value in Self::ALL {
                    match at.checked_sub(value.weight()) {
                        Some(rest) => at = rest,
                        None => return *value,
                    }
                }
                Self::ALL[0]
            }

            fn write(&self, out: &mut String) {
                out.push_str(self.word());
            }

            fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.word() == text)
            }

            fn fix(&mut self, _: &$crate::op::value::Made) -> bool {
                true
            }
        }
    )*};
}
pub(crate) use words;

/// Sets of flags: words joined by `+`; `-` is the empty set. `/ N` is behind those that are
/// set N times more seldom than the others.
macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident {
        $($(#[$fdoc:meta])* $flag:ident $word:literal $(/ $seldom:literal)?,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[allow(clippy::struct_excessive_bools)]
        pub struct $name { $($(#[$fdoc])* #[doc = concat!("`", $word, "`")] pub $flag: bool,)* }

        impl $crate::op::value::Value for $name {
            fn roll(dice: &mut dyn $crate::op::value::Dice) -> Self {
                Self { $($flag: dice.below(5 $(* $seldom)?) == 0,)* }
            }

            fn write(&self, out: &mut String) {
                let before = out.len();
                $(if self.$flag {
                    if out.len() > before { out.push('+'); }
                    out.push_str($word);
                })*
                if out.len() == before { out.push('-'); }
            }

            fn parse(text: &str) -> Option<Self> {
                let mut value = Self::default();
                if text == "-" { return Some(value); }
                for word in text.split('+') {
                    match word { $($word => value.$flag = true,)* _ => return None }
                }
                Some(value)
            }

            fn fix(&mut self, _: &$crate::op::value::Made) -> bool {
                true
            }

            fn tweak(&mut self, dice: &mut dyn $crate::op::value::Dice) {
                let count = [$($word),*].len();
                let chosen = dice.below(u32::try_from(count).unwrap_or(0));
                let mut index = 0;
                $(if index == chosen { self.$flag = !self.$flag; } index += 1;)*
                let _ = index;
            }
        }
    )*};
}
pub(crate) use flags;

/// Operations and BPF steps: a word and fields. `sep` stands between them,
/// `weight` says how often one is rolled, `makes` what it adds to [`Made`].
macro_rules! operations {
    ($(#[$doc:meta])* $name:ident sep $sep:literal {
        $($(#[$vdoc:meta])* $variant:ident $word:literal weight $weight:literal
            $(makes $kind:ident)? { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* })*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vdoc])* #[doc = concat!("`", $word, "`")] $variant {
                $($(#[$fdoc])* $field: $type,)*
            },)*
        }

        impl $name {
            /// Word and weight of each.
            pub const TABLE: &'static [(&'static str, u32)] = &[$(($word, $weight)),*];

            /// The word it is written with.
            #[must_use]
            pub fn word(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $word),* }
            }

            /// The one with this number in [`Self::TABLE`], its fields rolled.
            fn roll_nth(chosen: usize, dice: &mut dyn $crate::op::value::Dice) -> Self {
                #[allow(unused_imports)]
                use $crate::op::value::Value;
                let mut index = 0;
                $(if index == chosen {
                    return Self::$variant { $($field: <$type>::roll(dice),)* };
                }
                index += 1;)*
                let _ = index;
                Self::roll_nth(0, dice)
            }
        }

        impl $crate::op::value::Value for $name {
            fn roll(dice: &mut dyn $crate::op::value::Dice) -> Self {
                let total: u32 = Self::TABLE.iter().map(|row| row.1).sum();
                let mut left = dice.below(total);
                let chosen = Self::TABLE.iter().position(|row| {
                    let here = left < row.1;
                    left = left.saturating_sub(row.1);
                    here
                });
                Self::roll_nth(chosen.unwrap_or(0), dice)
            }

            fn write(&self, out: &mut String) {
                match self {
                    $(Self::$variant { $($field),* } => {
                        out.push_str($word);
                        $(
                            out.push($sep);
                            out.push_str(stringify!($field));
                            out.push('=');
                            $field.write(out);
                        )*
                    })*
                }
            }

            fn parse(text: &str) -> Option<Self> {
                let mut parts = text.split($sep);
                let word = parts.next()?;
                #[allow(unused_mut, unused_variables)]
                let mut field = |name: &str| {
                    let (key, value) = parts.next()?.split_once('=')?;
                    (key == name).then_some(value)
                };
                let value = match word {
                    $($word => Self::$variant {
                        $($field: <$type>::parse(field(stringify!($field))?)?,)*
                    },)*
                    _ => return None,
                };
                parts.next().is_none().then_some(value)
            }

            #[allow(unused_variables)]
            fn fix(&mut self, made: &$crate::op::value::Made) -> bool {
                match self {
                    $(Self::$variant { $($field),* } => true $(&& $field.fix(made))*,)*
                }
            }

            #[allow(unused_variables, unused_mut, unused_assignments)]
            fn tweak(&mut self, dice: &mut dyn $crate::op::value::Dice) {
                match self {
                    $(Self::$variant { $($field),* } => {
                        let mut fields = 0;
                        $(let _ = &$field; fields += 1;)*
                        let mut left = dice.below(fields);
                        $(
                            if left == 0 { $field.tweak(dice); }
                            left = left.wrapping_sub(1);
                        )*
                    })*
                }
            }
        }

        impl $name {
            /// What it makes, counted.
            #[allow(unused_variables)]
            pub fn count(&self, made: &mut $crate::op::value::Made) {
                match self {
                    $(Self::$variant { .. } => {
                        $(made.$kind = made.$kind.saturating_add(1);)?
                    })*
                }
            }
        }
    };
}
pub(crate) use operations;

#[cfg(test)]
mod tests {
    use super::*;

    words! {
        /// A word for each.
        Thing {
            /// Once.
            Seldom "seldom",
            /// Six times as often.
            Often "often" * 6,
            /// Once.
            Last "last",
        }
    }

    flags! {
        /// Flags, one of them set more seldom.
        Things {
            /// Once in five.
            usual "usual",
            /// Once in twenty.
            rare "rare" / 4,
        }
    }

    /// Sets each flag where its chance is one in so many, and no other.
    struct OneIn(u32);

    impl Dice for OneIn {
        fn below(&mut self, n: u32) -> u32 {
            u32::from(n != self.0)
        }
    }

    /// Each flag is set as often as it says.
    #[test]
    fn flags_have_chances() {
        let rolled = [5, 20, 6].map(|n| {
            let Things { usual, rare } = Things::roll(&mut OneIn(n));
            (usual, rare)
        });
        assert_eq!(rolled, [(true, false), (false, true), (false, false)]);
    }

    /// Rolls what a test wants.
    struct Loaded(u32);

    impl Dice for Loaded {
        fn below(&mut self, n: u32) -> u32 {
            assert_eq!(n, 8);
            self.0
        }
    }

    /// Each word is rolled as often as its weight says.
    #[test]
    fn words_have_weights() {
        let rolled: Vec<&str> = (0..8).map(|at| Thing::roll(&mut Loaded(at)).word()).collect();
        assert_eq!(rolled, [&["seldom"][..], &["often"; 6], &["last"]].concat());
    }
}
