//! Reads protobuf in the one form in which it is allowed: fields ascending, defaults left out, numbers as short as they can
//! be, nothing unknown. What this accepts, prost would encode to the same bytes; nothing is copied.

use matrixai_proto::StrictError;

/// The bytes are not canonical, or no message at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotCanonical;

impl From<NotCanonical> for StrictError {
    fn from(NotCanonical: NotCanonical) -> Self {
        StrictError::NotCanonical
    }
}

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// What is left of a message, field by field.
#[derive(Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field's number and value; `None` at the end.
    pub(crate) fn field(&mut self) -> Result<Option<(u32, Value<'a>)>, NotCanonical> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.number()?;
        let field = u32::try_from(key >> 3).map_err(|_| NotCanonical)?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            2 => {
                let length = usize::try_from(self.number()?).map_err(|_| NotCanonical)?;
                let (value, rest) = self.0.split_at_checked(length).ok_or(NotCanonical)?;
                self.0 = rest;
                Value::Bytes(value)
            }
            _ => return Err(NotCanonical),
        };
        Ok(Some((field, value)))
    }

    /// The value of this field if it is the next; empty, its default, if another or none is.
    pub(crate) fn bytes(&mut self, field: u32) -> Result<&'a [u8], NotCanonical> {
        match self.value(field)? {
            None => Ok(&[]),
            // A default is left out.
            Some(Value::Bytes(value)) if !value.is_empty() => Ok(value),
            Some(Value::Bytes(_) | Value::Number(_)) => Err(NotCanonical),
        }
    }

    /// The same for text.
    pub(crate) fn text(&mut self, field: u32) -> Result<&'a str, NotCanonical> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| NotCanonical)
    }

    /// The same for a number.
    pub(crate) fn uint(&mut self, field: u32) -> Result<u64, NotCanonical> {
        match self.value(field)? {
            None => Ok(0),
            Some(Value::Number(value)) if value != 0 => Ok(value),
            Some(Value::Number(_) | Value::Bytes(_)) => Err(NotCanonical),
        }
    }

    /// The next element of a repeated field, which may be empty; `None` when another field or none is next.
    pub(crate) fn element(&mut self, field: u32) -> Result<Option<&'a [u8]>, NotCanonical> {
        match self.value(field)? {
            None => Ok(None),
            Some(Value::Bytes(value)) => Ok(Some(value)),
            Some(Value::Number(_)) => Err(NotCanonical),
        }
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), NotCanonical> {
        if self.0.is_empty() { Ok(()) } else { Err(NotCanonical) }
    }

    fn value(&mut self, field: u32) -> Result<Option<Value<'a>>, NotCanonical> {
        let mut ahead = Fields(self.0);
        match ahead.field()? {
            Some((next, value)) if next == field => {
                self.0 = ahead.0;
                Ok(Some(value))
            }
            Some(_) | None => Ok(None),
        }
    }

    fn number(&mut self) -> Result<u64, NotCanonical> {
        let mut value = 0u64;
        for (shift, at) in (0..64u32).step_by(7).zip(0usize..) {
            let byte = *self.0.get(at).ok_or(NotCanonical)?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return Err(NotCanonical);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // No zeros in front: a last byte of nothing could have been left out.
                if byte == 0 && at > 0 {
                    return Err(NotCanonical);
                }
                self.0 = self.0.get(at.saturating_add(1)..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(NotCanonical)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use matrixai_proto::{decode_strict, v1};
    use proptest::prelude::*;
    use prost::Message;

    /// An envelope by this reader, as prost's type.
    fn read(bytes: &[u8]) -> Result<v1::Envelope, NotCanonical> {
        let mut fields = Fields(bytes);
        let envelope = v1::Envelope {
            cluster_id: fields.bytes(1)?.to_vec(),
            key: fields.bytes(2)?.to_vec(),
            method: fields.text(3)?.to_owned(),
            command_id: fields.bytes(4)?.to_vec(),
            expires_ms: fields.uint(5)?,
            payload: fields.bytes(6)?.to_vec(),
            signature: fields.bytes(7)?.to_vec(),
        };
        fields.end()?;
        Ok(envelope)
    }

    proptest! {
        /// prost, which decodes and encodes again, is the oracle.
        #[test]
        fn accepts_what_prost_would_write(
            cluster_id in prop::collection::vec(any::<u8>(), 0..4),
            method in "[a-z☂]{0,3}",
            expires_ms in prop_oneof![Just(0), 0u64..300, any::<u64>()],
            payload in prop::collection::vec(any::<u8>(), 0..200),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 0..4),
        ) {
            let envelope = v1::Envelope { cluster_id, method, expires_ms, payload, ..v1::Envelope::default() };
            let mut bytes = envelope.encode_to_vec();
            prop_assert_eq!(read(&bytes), Ok(envelope));
            for (at, byte, kind) in changes {
                let at = at.index(bytes.len().max(1)).min(bytes.len());
                match kind {
                    0 => bytes.insert(at, byte),
                    1 if at < bytes.len() => { bytes.remove(at); }
                    _ => if let Some(old) = bytes.get_mut(at) { *old = byte },
                }
            }
            prop_assert_eq!(read(&bytes).ok(), decode_strict::<v1::Envelope>(&bytes).ok());
        }

        #[test]
        fn agrees_with_prost_on_small_noise(bytes in prop::collection::vec(prop_oneof![0u8..4, Just(0x28), Just(0x80), any::<u8>()], 0..12)) {
            prop_assert_eq!(read(&bytes).ok(), decode_strict::<v1::Envelope>(&bytes).ok());
        }
    }
}
