//! An adapter is the same model as its update added to the weights.

use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{Decoder, LoraWeights, TokenBatch, decoder_from};

use crate::random_model::{Features, RandomModel};
use crate::shared::relative_error;

fn merged(model: &RandomModel) -> Decoder {
    let mut tensors = model.tensors.clone();
    let weights = tensors.iter_mut().filter_map(|t| Some((t.name.strip_suffix(".weight")?, t.values.as_mut_slice())));
    model.adapter.merge_into(weights).unwrap();
    decoder_from(model.decoder.config().clone(), &tensors).unwrap()
}

/// Within 2e-5 of the largest logit: the merged weight is rounded once more, and sums run in another order.
#[test]
fn merged_weights_give_the_logits_of_the_adapter() {
    for features in [
        Features { rank: 2, alpha: 16.0, ..Features::default() },
        Features { rank: 4, alpha: 3.0, rslora: true, targets: 0b010_1001, qkv_bias: true, ..Features::default() },
        Features { rank: 5, alpha: 5.0, targets: 0b101_0110, tied: true, qk_norm: true, ..Features::default() },
    ] {
        let model = features.build();
        let batch = TokenBatch::new(&model.groups());
        let adapted = model.decoder.logits(Some(&model.lora), &batch);
        let error = relative_error(&merged(&model).logits(None, &batch), &adapted);
        assert!(error <= 2e-5, "differs by {error} in {features:?}");
        let change = relative_error(&model.decoder.logits(None, &batch), &adapted);
        assert!(change > 1e-2, "the adapter changes nothing ({change}) in {features:?}");
    }
}

#[test]
fn zero_factors_change_no_bit() {
    let model = Features::default().build();
    let mut adapter = model.adapter.clone();
    adapter.modules.iter_mut().for_each(|m| m.b.fill(0.0));
    let lora = LoraWeights::new(&Cpu, model.decoder.config(), &adapter);
    let batch = TokenBatch::new(&model.groups());
    assert_eq!(model.decoder.logits(Some(&lora), &batch), model.decoder.logits(None, &batch));
}
