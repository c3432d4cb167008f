//! The part of ONNX's protobuf messages that a model needs, as bytes.
//!
//! Field numbers and types are those of `onnx.proto3` (onnx/onnx, IR version 8). Unaware of models: it encodes what it is
//! given, in the order in which it is given, so that equal graphs are equal bytes.

/// An element type of ONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Float = 1,
    Text = 8,
    Double = 11,
}

/// A message under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

const VARINT: u64 = 0;
const BYTES: u64 = 2;

impl Message {
    /// The encoded message.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn tag(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    pub(super) fn number(&mut self, field: u64, value: i64) -> &mut Self {
        self.tag(field, VARINT);
        // A negative number is written as its two's complement.
        self.varint(value as u64);
        self
    }

    pub(super) fn blob(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.tag(field, BYTES);
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    pub(super) fn text(&mut self, field: u64, value: &str) -> &mut Self {
        self.blob(field, value.as_bytes())
    }

    pub(super) fn message(&mut self, field: u64, value: &Message) -> &mut Self {
        self.blob(field, &value.bytes)
    }
}

/// `NodeProto`; the standard operators' `domain` has no name.
pub(super) fn node(
    (domain, operator): (&str, &str),
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[Message],
) -> Message {
    let mut node = Message::default();
    for input in inputs {
        node.text(1, input);
    }
    for output in outputs {
        node.text(2, output);
    }
    // Every operator here makes something, which names it.
    node.text(3, outputs[0]).text(4, operator);
    for attribute in attributes {
        node.message(5, attribute);
    }
    if !domain.is_empty() {
        node.text(7, domain);
    }
    node
}

/// `AttributeProto` with a whole number.
pub(super) fn whole(name: &str, value: i64) -> Message {
    let mut attribute = Message::default();
    attribute.text(1, name).number(3, value).number(20, 2);
    attribute
}

/// `AttributeProto` with a text.
pub(super) fn word(name: &str, value: &str) -> Message {
    let mut attribute = Message::default();
    attribute.text(1, name).text(4, value).number(20, 3);
    attribute
}

/// `AttributeProto` with floating-point numbers, packed.
pub(super) fn reals(name: &str, values: impl Iterator<Item = f32>) -> Message {
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    let mut attribute = Message::default();
    attribute.text(1, name).blob(7, &bytes).number(20, 6);
    attribute
}

/// `AttributeProto` with whole numbers, packed.
pub(super) fn wholes(name: &str, values: impl Iterator<Item = i64>) -> Message {
    let mut packed = Message::default();
    values.for_each(|value| packed.varint(value as u64));
    let mut attribute = Message::default();
    attribute.text(1, name).blob(8, &packed.bytes).number(20, 7);
    attribute
}

/// `AttributeProto` with texts.
pub(super) fn words<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> Message {
    let mut attribute = Message::default();
    attribute.text(1, name);
    for value in values {
        attribute.text(9, value);
    }
    attribute.number(20, 8);
    attribute
}

/// `TensorProto` of numbers, from their little-endian bytes.
pub(super) fn tensor(name: &str, element: Element, dims: &[usize], bytes: &[u8]) -> Message {
    let mut tensor = header(element, dims);
    tensor.text(8, name).blob(9, bytes);
    tensor
}

/// `TensorProto` of texts.
pub(super) fn texts(name: &str, values: &[String]) -> Message {
    let mut tensor = header(Element::Text, &[values.len()]);
    for value in values {
        tensor.text(6, value);
    }
    tensor.text(8, name);
    tensor
}

fn header(element: Element, dims: &[usize]) -> Message {
    let mut tensor = Message::default();
    for &dim in dims {
        tensor.number(1, dim as i64);
    }
    tensor.number(2, element as i64);
    tensor
}

/// `ValueInfoProto` of rows of `width` values each; one value a row without it.
pub(super) fn value(name: &str, element: Element, width: Option<usize>) -> Message {
    let mut rows = Message::default();
    rows.text(2, "rows");
    let mut shape = Message::default();
    shape.message(1, &rows);
    if let Some(width) = width {
        let mut columns = Message::default();
        columns.number(1, width as i64);
        shape.message(1, &columns);
    }
    let (mut tensor, mut kind, mut value) =
        (Message::default(), Message::default(), Message::default());
    tensor.number(1, element as i64).message(2, &shape);
    kind.message(1, &tensor);
    value.text(1, name).message(2, &kind);
    value
}

/// `OperatorSetIdProto`.
pub(super) fn operators(domain: &str, version: i64) -> Message {
    let mut set = Message::default();
    set.text(1, domain).number(2, version);
    set
}

/// `StringStringEntryProto`.
pub(super) fn entry(key: &str, value: &str) -> Message {
    let mut entry = Message::default();
    entry.text(1, key).text(2, value);
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the encoding's own documentation (protobuf.dev, "Encoding").
    #[test]
    fn fields_are_encoded_as_protobuf_says() {
        let mut message = Message::default();
        message.number(1, 150).text(2, "testing");
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x07, b't', b'e', b's', b't', b'i', b'n', b'g'];
        assert_eq!(message.clone().into_bytes(), bytes);
        let mut outer = Message::default();
        outer.message(3, Message::default().number(1, 150));
        assert_eq!(outer.into_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let mut negative = Message::default();
        negative.number(1, -2);
        assert_eq!(negative.into_bytes(), [&[0x08, 0xfe][..], &[0xff; 8], &[0x01]].concat());
    }
}
