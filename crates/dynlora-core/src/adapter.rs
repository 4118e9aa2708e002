//! A LoRA adapter: factors for a set of linear layers.

use std::collections::BTreeMap;
use std::path::Path;

use krystal_math::rng::{Purpose, stream_rng};
use rand::Rng;

use crate::{Error, LoraConfig, LoraModule, ModuleShape, peft};

/// A configuration and the factors it stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraAdapter {
    /// How the factors were made and are scaled.
    pub config: LoraConfig,
    /// The adapted modules, in the order of the shapes the adapter was made for.
    pub modules: Vec<LoraModule>,
}

impl LoraAdapter {
    /// A fresh adapter: `A ~ U(-1/sqrt(d_in), 1/sqrt(d_in))` as in PEFT (`kaiming_uniform_(a=sqrt(5))`), `B = 0`, so that
    /// the adapted model starts as the base model.
    ///
    /// `A` of the module at index `i` of `shapes` is drawn from stream `(seed, Purpose::Adapter, i, 0)`: which other
    /// modules are targeted does not change it.
    ///
    /// # Errors
    /// [`Error::Field`] or [`Error::Pattern`] for a wrong configuration, [`Error::UnknownTarget`] for a target name that no
    /// module has, [`Error::NothingTargeted`].
    pub fn new(config: LoraConfig, shapes: &[ModuleShape], seed: u64) -> Result<Self, Error> {
        config.validate()?;
        let mut modules = Vec::new();
        for index in config.target_modules.select_all(shapes)? {
            let shape = &shapes[index];
            let (rank, scale) = config.rank_and_scale(&shape.name)?;
            let sizes = rank.checked_mul(shape.d_in).zip(rank.checked_mul(shape.d_out));
            let (a_len, b_len) =
                sizes.ok_or_else(|| Error::module(&shape.name, "a size that fits memory", "rank * width", rank))?;
            let bound = 1.0 / (shape.d_in as f64).sqrt();
            let mut rng = stream_rng(seed, Purpose::Adapter, index as u64, 0);
            let a = (0..a_len)
                .map(|_| {
                    // 24 bits, the most an f32 in [0, 1) tells apart; written out so that no other crate's choice of
                    // uniform sampling can change the draws.
                    let unit = f64::from(rng.next_u32() >> 8) / f64::from(1_u32 << 24);
                    (bound * (2.0 * unit - 1.0)) as f32
                })
                .collect();
            modules.push(LoraModule {
                name: shape.name.clone(),
                d_in: shape.d_in,
                d_out: shape.d_out,
                rank,
                scale,
                a,
                b: vec![0.0; b_len],
            });
        }
        Ok(Self { config, modules })
    }

    /// Numbers in all factors.
    pub fn num_parameters(&self) -> usize {
        self.modules.iter().map(LoraModule::num_parameters).sum()
    }

    /// The module called `name`, if it is adapted.
    pub fn module(&self, name: &str) -> Option<&LoraModule> {
        self.modules.iter().find(|module| module.name == name)
    }

    /// Adds every module's update to its weight. `weights` are names and `(d_out, d_in)` row-major values; names that the
    /// adapter lacks are left alone.
    ///
    /// # Errors
    /// [`Error::MissingWeight`] if a module of the adapter has no weight among them, [`Error::Module`] if one has another
    /// size; some weights may have been changed by then.
    pub fn merge_into<'w>(&self, weights: impl IntoIterator<Item = (&'w str, &'w mut [f32])>) -> Result<(), Error> {
        let mut left: BTreeMap<&str, &LoraModule> =
            self.modules.iter().map(|module| (module.name.as_str(), module)).collect();
        for (name, weight) in weights {
            if let Some(module) = left.remove(name) {
                module.merge_into(weight)?;
            }
        }
        match left.first_key_value() {
            Some((name, _)) => Err(Error::MissingWeight { module: (*name).to_owned() }),
            None => Ok(()),
        }
    }

    /// Writes a PEFT adapter folder: `adapter_model.safetensors` (f32, every bit kept) and `adapter_config.json`.
    ///
    /// The directory is created if missing. Each file is replaced in one step, tensors first.
    ///
    /// # Errors
    /// [`Error::Module`] if a module contradicts its sizes or the configuration; [`Error::Io`] or [`Error::Write`].
    pub fn save(&self, directory: &Path, base_model_name_or_path: Option<&str>) -> Result<(), Error> {
        peft::save(self, directory, base_model_name_or_path)
    }

    /// Reads a PEFT adapter folder for a model with the modules `shapes`.
    ///
    /// Factors stored as f32 keep every bit; f16 and bf16 are widened exactly. `lora_dropout` is accepted and not applied.
    /// Where a file adapts fewer modules than its targets name (`exclude_modules`, `layers_to_transform`), the adapter's
    /// targets become the full names of those it has.
    ///
    /// # Errors
    /// Anything that is not plain LoRA on known linear layers is refused by the name of the field or tensor.
    pub fn load(directory: &Path, shapes: &[ModuleShape]) -> Result<Self, Error> {
        peft::load(directory, shapes)
    }
}
