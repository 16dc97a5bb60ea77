//! Encoder for protocol buffers (protobuf.dev, "Encoding"), with the field types that TensorBoard event
//! files and ONNX need.

/// Builder of a message: its encoded fields so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn new() -> Message {
        Message::default()
    }

    /// The encoded message.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Appends a `double`.
    pub(crate) fn double(mut self, field: u32, value: f64) -> Message {
        self.tag(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Appends a `float`.
    pub(crate) fn float(mut self, field: u32, value: f32) -> Message {
        self.tag(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Appends an `int64`, `enum` or `bool`.
    pub(crate) fn number(mut self, field: u32, value: i64) -> Message {
        self.tag(field, 0);
        self.varint(value as u64);
        self
    }

    /// Appends `bytes`, a `string`, or an encoded message.
    pub(crate) fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Message {
        let value = value.as_ref();
        self.tag(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// Appends a nested message.
    pub(crate) fn message(self, field: u32, value: Message) -> Message {
        self.bytes(field, value.0)
    }

    /// The key of a field: its number and wire type.
    fn tag(&mut self, field: u32, wire_type: u64) {
        self.varint(u64::from(field) << 3 | wire_type);
    }

    /// A variable-length integer: seven bits per byte, lowest first.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[test]
    fn fields_match_the_specification() {
        // The examples of protobuf.dev, "Encoding": field 1 with 150, and field 2 with "testing".
        assert_eq!(Message::new().number(1, 150).into_bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::new().bytes(2, "testing").into_bytes(), b"\x12\x07testing");
        assert_eq!(Message::new().number(20, 1).into_bytes(), [0xa0, 0x01, 0x01]);
    }
}
