//! Moving one channel without changing the sum.

use serde::{Deserialize, Serialize};

use crate::{AgentId, Channel, ChannelState, Level, LoraLayer};

/// Where migration finds the layers it moves channels between.
///
/// Object-safe; the hierarchy implements it over its own maps. All layers have the same modules, of the same widths. Asking for one layer ends the borrow of the last one:
/// transfers work on copies of channels.
pub trait LayerAccess {
    /// Agents that have layers of their own, in a fixed order.
    fn agents(&self) -> Vec<AgentId>;
    /// A layer; `agent` does not matter for shared levels. `None` where there is no such layer: migration then leaves it out.
    fn layer(&mut self, level: Level, agent: AgentId) -> Option<&mut (dyn LoraLayer + 'static)>;
}

/// Names one layer of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LayerAddress {
    /// Its level.
    pub level: Level,
    /// Whose it is; 0 for shared levels.
    pub agent: AgentId,
}

impl LayerAddress {
    /// The layer of `level` as `agent` sees it.
    pub fn new(level: Level, agent: Option<AgentId>) -> Self {
        let agent = if level.is_shared() { AgentId::default() } else { agent.unwrap_or_default() };
        Self { level, agent }
    }

    pub(super) fn of<'a>(self, layers: &'a mut dyn LayerAccess) -> Option<&'a mut (dyn LoraLayer + 'static)> {
        layers.layer(self.level, self.agent)
    }
}

/// Splits `total` into what the slow and what the fast layer hold: `(slow, fast)`, about `fraction` and `1 - fraction` of it, and
/// `slow + fast == total` without rounding.
///
/// The larger part is rounded and the smaller one is what is missing: a difference of two floats within a factor of two of
/// each other is exact (Sterbenz), and no float is lost to underflow. A fraction outside `[0, 1]` is the nearer end.
pub fn split(total: f32, fraction: f64) -> (f32, f32) {
    if fraction.is_nan() || fraction <= 0.0 {
        (0.0, total)
    } else if fraction >= 1.0 {
        (total, 0.0)
    } else if fraction < 0.5 {
        let fast = ((1.0 - fraction) * f64::from(total)) as f32;
        (total - fast, fast)
    } else {
        let slow = (fraction * f64::from(total)) as f32;
        (slow, total - slow)
    }
}

/// A channel on its way from a fast layer to a slow one (R45): both hold the same row `a`, and `b` is divided between them.
///
/// `b_slow a + b_fast a` is the same before and after every step. Both rows of `A` are pinned from the beginning to the end;
/// the rows of `B` go on training and decaying in their layers, and the next step divides anew what they have become.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handoff {
    /// Whence.
    pub fast: LayerAddress,
    /// Where to.
    pub slow: LayerAddress,
    /// Module of the hierarchy.
    pub module: usize,
    /// Channel of the fast layer.
    pub fast_channel: usize,
    /// Channel of the slow layer.
    pub slow_channel: usize,
    /// Share that the slow layer holds.
    pub fraction: f64,
}

impl Handoff {
    /// Gives the slow layer's free channel the fast channel's row of `A`, its moments and its activity, and pins both.
    ///
    /// The new channel is SCREENED for a quarter of the slow layer's time constant at least (R19). `None`, and nothing is
    /// touched, where a layer is not there, either channel is moving already, the slow one is in use, or the widths differ.
    pub fn begin(
        layers: &mut dyn LayerAccess,
        fast: LayerAddress,
        slow: LayerAddress,
        module: usize,
        fast_channel: usize,
        slow_channel: usize,
    ) -> Option<Self> {
        let source = take_copy(layers, fast, module, fast_channel)?;
        let target = take_copy(layers, slow, module, slow_channel)?;
        let is_free = target.b.iter().all(|b| *b == 0.0);
        if source.state.is_pinned || target.state.is_pinned || !is_free || !same_widths(&source, &target) {
            return None;
        }
        let arriving = Channel { b: vec![0.0; source.b.len()], ..arrival(&source, &target) };
        put_pinned(slow.of(layers)?, module, slow_channel, arriving);
        fast.of(layers)?.pin_channel(module, fast_channel, true);
        Some(Self { fast, slow, module, fast_channel, slow_channel, fraction: 0.0 })
    }

    /// Divides the channel so that the slow layer holds `fraction` of it; at 1 the channel has arrived, is no longer pinned,
    /// and the fast one begins anew. Returns the Frobenius norm of the change of the sum: the rounding of one addition where
    /// the halves have been trained since the last step, else 0.
    ///
    /// `None` where a layer has gone or the rows of `A` are no longer the same: the handoff then ends with what each half
    /// holds, which is the sum it had.
    pub fn advance(&mut self, layers: &mut dyn LayerAccess, fraction: f64) -> Option<f64> {
        let Some((mut source, mut target)) = self.halves(layers) else {
            self.end(layers);
            return None;
        };
        self.fraction = if fraction >= 1.0 { 1.0 } else { fraction.max(self.fraction) };
        let mut jump = 0.0;
        for (fast, slow) in source.b.iter_mut().zip(&mut target.b) {
            let before = f64::from(*slow) + f64::from(*fast);
            (*slow, *fast) = split(*slow + *fast, self.fraction);
            jump += (f64::from(*slow) + f64::from(*fast) - before).powi(2);
        }
        let size: f64 = source.a.iter().map(|a| f64::from(*a).powi(2)).sum();
        let arrived = self.fraction >= 1.0;
        if let Some(layer) = self.fast.of(layers) {
            put_pinned(layer, self.module, self.fast_channel, source);
            if arrived {
                layer.pin_channel(self.module, self.fast_channel, false);
                layer.reset_channel(self.module, self.fast_channel);
            }
        }
        if let Some(layer) = self.slow.of(layers) {
            if arrived {
                target.state.credit_ticks = arrival_credit(layer);
            }
            put_pinned(layer, self.module, self.slow_channel, target);
            layer.pin_channel(self.module, self.slow_channel, !arrived);
        }
        Some((jump * size).sqrt())
    }

    /// Ends where it stands: each layer keeps what it holds.
    pub fn end(&self, layers: &mut dyn LayerAccess) {
        for (address, channel) in [(self.fast, self.fast_channel), (self.slow, self.slow_channel)] {
            unpin(layers, address, self.module, channel);
        }
    }

    fn halves(&self, layers: &mut dyn LayerAccess) -> Option<(Channel, Channel)> {
        let source = take_copy(layers, self.fast, self.module, self.fast_channel)?;
        let target = take_copy(layers, self.slow, self.module, self.slow_channel)?;
        (same_widths(&source, &target) && source.a == target.a).then_some((source, target))
    }
}

/// A copy of a channel; `None` where there is no such layer, module or channel.
pub(super) fn take_copy(
    layers: &mut dyn LayerAccess,
    address: LayerAddress,
    module: usize,
    channel: usize,
) -> Option<Channel> {
    let layer = address.of(layers)?;
    let exists = layer.factors().get(module).is_some_and(|factors| channel < factors.rank);
    exists.then(|| layer.copy_channel(module, channel))
}

/// Unpins a channel if it is still there.
pub(super) fn unpin(layers: &mut dyn LayerAccess, address: LayerAddress, module: usize, channel: usize) {
    if let Some(layer) = address.of(layers)
        && layer.factors().get(module).is_some_and(|factors| channel < factors.rank)
    {
        layer.pin_channel(module, channel, false);
    }
}

/// Puts a channel and pins it.
pub(super) fn put_pinned(layer: &mut dyn LoraLayer, module: usize, channel: usize, mut value: Channel) {
    value.state.is_pinned = true;
    layer.put_channel(module, channel, value);
    layer.pin_channel(module, channel, true);
}

/// Ticks for which a channel that arrives in `layer` stays SCREENED: a quarter of the time constant (R19).
pub(super) fn arrival_credit(layer: &dyn LoraLayer) -> u32 {
    // `as` saturates, and an unbounded time constant is a long one.
    (layer.time_constant() / 4.0).ceil() as u32
}

/// What `source` becomes in the place of `target`; the credit is given when it has arrived.
fn arrival(source: &Channel, target: &Channel) -> Channel {
    Channel {
        a: source.a.clone(),
        b: source.b.clone(),
        moments: fitting_moments(source, target),
        state: ChannelState {
            activity: source.state.activity,
            is_screened: true,
            is_pinned: true,
            credit_ticks: target.state.credit_ticks,
            generation: target.state.generation,
        },
    }
}

/// Moments move where both layers keep the same ones; a layer with another optimiser begins with none.
///
/// Both halves of a moving channel have the same row of `A`, hence the same gradient of `b`: the same moments are right for both.
fn fitting_moments(source: &Channel, target: &Channel) -> Vec<f32> {
    if source.moments.len() == target.moments.len() { source.moments.clone() } else { vec![0.0; target.moments.len()] }
}

fn same_widths(source: &Channel, target: &Channel) -> bool {
    (source.a.len(), source.b.len()) == (target.a.len(), target.b.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::migration::plain_layers::{PlainLayers, relative_gap};

    proptest! {
        #[test]
        fn a_split_adds_up_exactly(bits in any::<u32>(), fraction in -0.1..1.1_f64) {
            let total = f32::from_bits(bits);
            prop_assume!(total.is_finite());
            let (slow, fast) = split(total, fraction);
            prop_assert_eq!(slow + fast, total);
            // And in the reals, not just after rounding.
            prop_assert_eq!(f64::from(slow) + f64::from(fast), f64::from(total));
            let share = fraction.clamp(0.0, 1.0) * f64::from(total);
            prop_assert!((f64::from(slow) - share).abs() <= f64::from(total).abs() * 1.2e-7 + 1e-44);
        }

        /// Random channels, schedules and widths: the sum stands still, to the last bit where nothing trains in between.
        #[test]
        fn a_handoff_changes_no_sum(
            seed in any::<u64>(),
            steps in prop::collection::vec(0.0..1.0_f64, 0..60),
            d_in in 1_usize..40,
            d_out in 1_usize..40,
        ) {
            let mut layers = PlainLayers::new(seed, &[(d_in, d_out)], [4, 4, 4, 4, 4], 1);
            layers.fill(Level::Context, 3);
            let before = layers.total(AgentId(0));
            let fast = LayerAddress::new(Level::Context, Some(AgentId(0)));
            let slow = LayerAddress::new(Level::Agent, Some(AgentId(0)));
            let moved = layers.get(fast).copy_channel(0, 2);
            let mut handoff = Handoff::begin(&mut layers, fast, slow, 0, 2, 1).unwrap();
            prop_assert!(layers.get(fast).channel(0, 2).is_pinned && layers.get(slow).channel(0, 1).is_pinned);
            let mut schedule = steps;
            schedule.sort_by(f64::total_cmp);
            schedule.push(1.0);
            for fraction in schedule {
                prop_assert_eq!(handoff.advance(&mut layers, fraction), Some(0.0));
                // The sum is the same number; only the order in which this test adds it up differs.
                prop_assert!(relative_gap(&layers.total(AgentId(0)), &before) < 1e-14);
            }
            let arrived = layers.get(slow).copy_channel(0, 1);
            prop_assert_eq!((&arrived.a, &arrived.b), (&moved.a, &moved.b));
            prop_assert_eq!(&arrived.moments, &moved.moments);
            prop_assert_eq!(arrived.state.activity, moved.state.activity);
            let credit = (layers.get(slow).time_constant() / 4.0).ceil() as u32;
            prop_assert_eq!((arrived.state.is_screened, arrived.state.credit_ticks), (true, credit));
            prop_assert!(!arrived.state.is_pinned && !layers.get(fast).channel(0, 2).is_pinned);
            // The fast channel begins anew.
            let freed = layers.get(fast).copy_channel(0, 2);
            prop_assert!(freed.b.iter().all(|b| *b == 0.0) && freed.a != moved.a);
            prop_assert_eq!(freed.state.generation, moved.state.generation + 1);
        }
    }

    #[test]
    fn halves_that_train_in_between_are_divided_anew() {
        let mut layers = PlainLayers::new(3, &[(6, 5)], [2; 5], 1);
        layers.fill(Level::Swarm, 2);
        let (fast, slow) = (LayerAddress::new(Level::Swarm, None), LayerAddress::new(Level::Domain, None));
        let mut handoff = Handoff::begin(&mut layers, fast, slow, 0, 0, 0).unwrap();
        for step in 1..=50 {
            for address in [fast, slow] {
                layers.get(address).factors_mut(0).b_row_mut(0).iter_mut().for_each(|b| *b = *b * 0.99 + 0.013);
            }
            let before = layers.total(AgentId(0));
            let jump = handoff.advance(&mut layers, f64::from(step) / 50.0).unwrap();
            let after = layers.total(AgentId(0));
            let size = before.iter().map(|x| x * x).sum::<f64>().sqrt();
            let moved = before.iter().zip(&after).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt();
            assert!(moved <= 1e-6 * size, "{moved} of {size}");
            assert!((moved - jump).abs() <= 1e-9 * size, "the reported jump {jump} is the measured {moved}");
        }
    }

    #[test]
    fn what_cannot_move_is_not_touched() {
        let mut layers = PlainLayers::new(5, &[(4, 4)], [2; 5], 1);
        layers.fill(Level::Agent, 1);
        layers.fill(Level::Context, 2);
        let fast = LayerAddress::new(Level::Context, Some(AgentId(0)));
        let slow = LayerAddress::new(Level::Agent, Some(AgentId(0)));
        let before = layers.clone();
        let absent = LayerAddress::new(Level::Context, Some(AgentId(7)));
        assert_eq!(Handoff::begin(&mut layers, fast, slow, 0, 0, 0), None, "the slow channel is in use");
        assert_eq!(Handoff::begin(&mut layers, fast, slow, 0, 2, 1), None, "no such channel");
        assert_eq!(Handoff::begin(&mut layers, fast, slow, 1, 0, 1), None, "no such module");
        assert_eq!(Handoff::begin(&mut layers, absent, slow, 0, 0, 1), None, "no such agent");
        assert_eq!(layers, before);
        let first = Handoff::begin(&mut layers, fast, slow, 0, 0, 1).unwrap();
        assert_eq!(Handoff::begin(&mut layers, fast, slow, 0, 1, 1), None, "the slow channel is promised");
        first.end(&mut layers);
        assert!(!layers.get(fast).channel(0, 0).is_pinned && !layers.get(slow).channel(0, 1).is_pinned);
    }

    #[test]
    fn a_row_that_drifted_ends_the_handoff_without_a_jump() {
        let mut layers = PlainLayers::new(9, &[(4, 4)], [2; 5], 1);
        layers.fill(Level::Domain, 2);
        let (fast, slow) = (LayerAddress::new(Level::Domain, None), LayerAddress::new(Level::Foundation, None));
        let mut handoff = Handoff::begin(&mut layers, fast, slow, 0, 1, 0).unwrap();
        handoff.advance(&mut layers, 0.3).unwrap();
        layers.get(fast).factors_mut(0).a_row_mut(1)[0] += 0.1;
        let before = layers.total(AgentId(0));
        assert_eq!(handoff.advance(&mut layers, 0.6), None);
        assert_eq!(layers.total(AgentId(0)), before);
        assert!(!layers.get(slow).channel(0, 0).is_pinned);
    }
}
