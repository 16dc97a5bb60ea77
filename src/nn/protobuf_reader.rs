//! Decoder for protocol buffers (protobuf.dev, "Encoding"). It borrows from the encoded bytes and checks every length.

/// The value of a field, by its wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wire<'a> {
    /// A variable-length integer: `int64`, `enum` or `bool`.
    Number(u64),
    /// Eight bytes: `double`.
    Eight([u8; 8]),
    /// `bytes`, a `string`, a nested message, or packed numbers.
    Bytes(&'a [u8]),
    /// Four bytes: `float`.
    Four([u8; 4]),
}

/// The fields of a message, in order: number and value, or what is wrong with the encoding.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    fn field(&mut self) -> Result<(u64, Wire<'a>), String> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Eight(self.array()?),
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => Wire::Four(self.array()?),
            kind => return Err(format!("expected a protocol buffer, found a field of the wire type {kind}")),
        };
        Ok((key >> 3, value))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| {
            format!("a field of {length} bytes does not fit: {} bytes are left", self.rest.len())
        })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N)?;
        Ok(std::array::from_fn(|at| bytes[at]))
    }

    /// A variable-length integer: seven bits per byte, lowest first.
    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number has more than 64 bits".into())
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Wire<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], String> {
        match self {
            Wire::Bytes(bytes) => Ok(bytes),
            other => Err(format!("expected text, bytes or a message, found {other:?}")),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "expected text in UTF-8".into())
    }

    pub(super) fn number(self) -> Result<i64, String> {
        match self {
            Wire::Number(number) => Ok(number as i64),
            other => Err(format!("expected an integer, found {other:?}")),
        }
    }

    pub(super) fn float(self) -> Result<f32, String> {
        match self {
            Wire::Four(bytes) => Ok(f32::from_le_bytes(bytes)),
            other => Err(format!("expected a float, found {other:?}")),
        }
    }

    /// Appends one integer, or several packed ones.
    pub(super) fn numbers_into(self, numbers: &mut Vec<i64>) -> Result<(), String> {
        let Wire::Bytes(packed) = self else {
            numbers.push(self.number()?);
            return Ok(());
        };
        let mut fields = Fields::of(packed);
        while !fields.rest.is_empty() {
            numbers.push(fields.varint()? as i64);
        }
        Ok(())
    }

    /// Appends one float, or several packed ones.
    pub(super) fn floats_into(self, floats: &mut Vec<f32>) -> Result<(), String> {
        let Wire::Bytes(packed) = self else {
            floats.push(self.float()?);
            return Ok(());
        };
        let (fours, rest) = packed.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(format!("expected packed floats, found {} bytes", packed.len()));
        }
        floats.extend(fours.iter().map(|four| f32::from_le_bytes(*four)));
        Ok(())
    }

    /// Appends one double, or several packed ones.
    pub(super) fn doubles_into(self, floats: &mut Vec<f32>) -> Result<(), String> {
        let packed = match &self {
            Wire::Eight(eight) => eight.as_slice(),
            other => other.bytes()?,
        };
        let (eights, rest) = packed.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(format!("expected packed doubles, found {} bytes", packed.len()));
        }
        floats.extend(eights.iter().map(|eight| f64::from_le_bytes(*eight) as f32));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Message;
    use super::*;

    #[test]
    fn fields_are_read_as_they_were_written() {
        let inner = Message::new().bytes(2, "testing");
        let bytes =
            Message::new().number(1, -150).message(3, inner).float(4, 0.5).double(5, 0.25).into_bytes();
        let fields: Vec<(u64, Wire)> = Fields::of(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(fields[0], (1, Wire::Number(-150i64 as u64)));
        assert_eq!(fields[1], (3, Wire::Bytes(b"\x12\x07testing")));
        assert_eq!((fields[2].1.float().unwrap(), fields[3].0), (0.5, 5));
        let mut floats = Vec::new();
        fields[3].1.doubles_into(&mut floats).unwrap();
        assert_eq!(floats, [0.25]);
        let mut numbers = Vec::new();
        Wire::Bytes(&[0x96, 0x01, 3]).numbers_into(&mut numbers).unwrap();
        assert_eq!(numbers, [150, 3]);
    }

    #[test]
    fn damaged_messages_are_errors() {
        for bytes in [
            &[0x0a][..],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x0b],
            &[0x0d, 1, 2],
            &[0x80],
        ] {
            assert!(Fields::of(bytes).any(|field| field.is_err()), "{bytes:?}");
            assert!(Fields::of(bytes).count() < 4, "{bytes:?}");
        }
    }
}
