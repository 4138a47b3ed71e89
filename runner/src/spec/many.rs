// SPDX-License-Identifier: MIT OR Apache-2.0
//! What may be written once or as a list: a sweep is a list.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

/// Nothing, one value, or a list of values.
#[derive(Clone, Debug)]
pub struct Many<T>(pub Vec<T>);

impl<T> Default for Many<T> {
    fn default() -> Self {
        Many(Vec::new())
    }
}

impl<T: Copy> Many<T> {
    /// One `None` if nothing was written, else each value.
    #[must_use]
    pub fn each(&self) -> Vec<Option<T>> {
        if self.0.is_empty() { vec![None] } else { self.0.iter().copied().map(Some).collect() }
    }
}

impl<'de, T: Deserialize<'de> + TryFrom<u64>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Values<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + TryFrom<u64>> Visitor<'de> for Values<T> {
            type Value = Vec<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a list of numbers")
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Vec<T>, E> {
                let value =
                    T::try_from(number).map_err(|_| E::custom("the number is too large"))?;
                Ok(vec![value])
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(value) = list.next_element()? {
                    all.push(value);
                }
                if all.is_empty() {
                    return Err(A::Error::custom("the list is empty"));
                }
                Ok(all)
            }
        }
        from.deserialize_any(Values(PhantomData)).map(Many)
    }
}
