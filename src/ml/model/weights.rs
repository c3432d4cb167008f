//! `model.safetensors`: the numbers of a model.
//!
//! `layers.N.weight` is F32 [inputs, outputs] (so `y = x · weight + bias`), `layers.N.bias` F32
//! [outputs], `preprocess.mean` and `preprocess.scale` F64 [features]. Unaware of `model.json`.

use std::borrow::Cow;

use safetensors::{Dtype, SafeTensors, View};

use super::network::Layer;
use crate::preprocess::Standardisation;

pub(super) struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    pub(super) fn f32(shape: &[usize], values: &[f32]) -> Tensor {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    pub(super) fn u32(values: impl Iterator<Item = u32>) -> Tensor {
        let bytes: Vec<u8> = values.flat_map(u32::to_le_bytes).collect();
        Tensor { dtype: Dtype::U32, shape: vec![bytes.len() / 4], bytes }
    }

    pub(super) fn u8(values: Vec<u8>) -> Tensor {
        Tensor { dtype: Dtype::U8, shape: vec![values.len()], bytes: values }
    }

    fn f64(values: &[f64]) -> Tensor {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor { dtype: Dtype::F64, shape: vec![values.len()], bytes }
    }
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The file's bytes; the order of tensors is fixed by their types and names.
pub(crate) fn encode(
    layers: &[Layer],
    standardisation: &Standardisation,
) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let mut tensors = vec![
        ("preprocess.mean".to_owned(), Tensor::f64(standardisation.mean())),
        ("preprocess.scale".to_owned(), Tensor::f64(standardisation.scale())),
    ];
    for (index, layer) in layers.iter().enumerate() {
        let weight = Tensor::f32(&[layer.inputs, layer.outputs], &layer.weight);
        tensors.push((format!("layers.{index}.weight"), weight));
        tensors.push((format!("layers.{index}.bias"), Tensor::f32(&[layer.outputs], &layer.bias)));
    }
    serialize(&tensors)
}

/// A file of these tensors.
pub(super) fn serialize(
    tensors: &[(String, Tensor)],
) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    safetensors::serialize(tensors.iter().map(|(name, tensor)| (name, tensor)), None)
}

/// The numbers in the file, if they are exactly those of layers of these shapes (inputs, outputs).
/// The error is a fragment that says what does not fit.
pub(crate) fn decode(
    bytes: &[u8],
    shapes: &[(usize, usize)],
) -> Result<(Vec<Layer>, Standardisation), String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let features = shapes.first().map_or(0, |shape| shape.0);
    let mean = f64s(tensor(&file, "preprocess.mean", Dtype::F64, &[features])?);
    let scale = f64s(tensor(&file, "preprocess.scale", Dtype::F64, &[features])?);
    let standardisation = Standardisation::from_parts(mean, scale)
        .ok_or("means and scales must be finite, scales above zero")?;
    let mut layers = Vec::with_capacity(shapes.len());
    for (index, &(inputs, outputs)) in shapes.iter().enumerate() {
        let (weight, bias) = (format!("layers.{index}.weight"), format!("layers.{index}.bias"));
        let weight = f32s(tensor(&file, &weight, Dtype::F32, &[inputs, outputs])?);
        let bias = f32s(tensor(&file, &bias, Dtype::F32, &[outputs])?);
        layers.push(Layer { inputs, outputs, weight, bias });
    }
    let expected = 2 + 2 * shapes.len();
    if file.len() != expected {
        return Err(format!("it holds {} tensors, the model has {expected}", file.len()));
    }
    Ok((layers, standardisation))
}

pub(super) fn tensor<'a>(
    file: &SafeTensors<'a>,
    name: &str,
    dtype: Dtype,
    shape: &[usize],
) -> Result<&'a [u8], String> {
    let view = file.tensor(name).map_err(|_| format!("there is no tensor `{name}`"))?;
    if view.dtype() != dtype || view.shape() != shape {
        return Err(format!(
            "`{name}` is {:?} {:?} where the model has {dtype:?} {shape:?}",
            view.dtype(),
            view.shape()
        ));
    }
    Ok(view.data())
}

pub(super) fn u32s(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|&chunk| u32::from_le_bytes(chunk)).collect()
}

pub(super) fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&chunk| f32::from_le_bytes(chunk)).collect()
}

fn f64s(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|&chunk| f64::from_le_bytes(chunk)).collect()
}
