//! Files with tensors that a network does not have are rejected with names and count.

use std::collections::HashMap;

use headstart::Result;
use headstart::models::Network;
use headstart::prelude::*;
use headstart::weights::read_file;

/// Weights of a narrow network with its top, named as by `save_weights`.
fn whole(network: fn(Weights) -> Network) -> Result<HashMap<String, Tensor>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    narrow(network, Weights::Random(1), true).build()?.save_weights(&path)?;
    read_file(&path)
}

fn narrow(network: fn(Weights) -> Network, weights: Weights, top: bool) -> Network {
    network(weights).alpha(0.05).input_shape((3, 32, 32)).classes(10).include_top(top)
}

fn with(tensors: &HashMap<String, Tensor>, more: &[(&str, &[usize])]) -> Result<Weights> {
    let mut tensors = tensors.clone();
    for (name, shape) in more {
        tensors.insert((*name).to_owned(), Tensor::zeros(*shape, DType::F32, &device())?);
    }
    Ok(Weights::Tensors(tensors))
}

#[test]
fn weights_of_a_larger_network_are_rejected_with_names_and_count() -> Result<()> {
    type Case = (fn(Weights) -> Network, &'static [(&'static str, &'static [usize])]);
    let cases: [Case; 3] = [
        (ResNet50::new, &[("layer3.6.conv1.weight", &[3, 3, 1, 1]), ("layer3.6.bn1.bias", &[3])]),
        (ResNet50::new, &[("conv4_block7_1_conv/kernel", &[3, 3, 1, 1]), ("conv4_block7_1_bn/beta", &[3])]),
        (EfficientNetB0::new, &[("blocks.1.2.conv_pw.weight", &[3, 3, 1, 1]), ("blocks.1.2.bn1.bias", &[3])]),
    ];
    for (network, more) in cases {
        let tensors = whole(network)?;
        for top in [true, false] {
            let error = narrow(network, with(&tensors, more)?, top).build().unwrap_err().to_string();
            let count = format!("2 of {} tensors do not belong", tensors.len() + 2);
            for part in [&count, more[0].0, more[1].0, "perhaps a larger one"] {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        }
    }
    Ok(())
}

#[test]
fn omitted_tops_custom_heads_and_counters_are_ignored() -> Result<()> {
    let tensors = whole(ResNet50::new)?;
    let more: &[(&str, &[usize])] = &[
        ("bn1.num_batches_tracked", &[]),
        ("fc.weight", &[10, 4]),
        ("fc.3.weight", &[10, 4]),
        ("optimizer/steps", &[]),
        ("my_head/kernel", &[4, 2]),
        ("my_head/bias", &[2]),
        ("layers/dense/vars/0", &[4, 2]),
        ("layers/dense/vars/1", &[2]),
    ];
    narrow(ResNet50::new, with(&tensors, more)?, false).build()?;
    // A network with its top has no place for another head.
    let error = narrow(ResNet50::new, with(&tensors, &more[2..])?, true).build().unwrap_err().to_string();
    assert!(error.contains("5 of") && error.contains("`fc.3.weight`"), "{error}");
    narrow(ResNet50::new, with(&tensors, &more[..1])?, true).build()?;
    Ok(())
}
