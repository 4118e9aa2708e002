//! What a leaf's gradient is made of.

use half::bf16;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::bf16 {}
}

/// A number of a leaf's gradient: `f32`, or [`bf16`] at half the bytes. Sums are `f32` either way. Sealed.
pub trait Element: sealed::Sealed + Copy + Default + Send + Sync + 'static {
    /// The same number, exactly.
    fn to_f32(self) -> f32;

    /// The same memory as this type, where that is what it is.
    #[doc(hidden)]
    fn within(sum: &mut [f32]) -> Option<&mut [Self]>;

    /// A buffer of another run as this type, where that is what it is.
    #[doc(hidden)]
    fn from_spare(spare: Vec<f32>) -> Option<Vec<Self>>;

    /// A buffer for another run, where it can be.
    #[doc(hidden)]
    fn into_spare(buffer: Vec<Self>) -> Option<Vec<f32>>;
}

impl Element for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    fn within(sum: &mut [f32]) -> Option<&mut [Self]> {
        Some(sum)
    }

    fn from_spare(spare: Vec<f32>) -> Option<Vec<Self>> {
        Some(spare)
    }

    fn into_spare(buffer: Vec<Self>) -> Option<Vec<f32>> {
        Some(buffer)
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        // Not `bf16::to_f32`, which quiets signalling NaNs and so does not vectorise: non-finite values are refused anyway.
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    fn within(_: &mut [f32]) -> Option<&mut [Self]> {
        None
    }

    fn from_spare(_: Vec<f32>) -> Option<Vec<Self>> {
        None
    }

    fn into_spare(_: Vec<Self>) -> Option<Vec<f32>> {
        None
    }
}
