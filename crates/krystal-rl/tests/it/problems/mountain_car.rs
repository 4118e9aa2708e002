//! The mountain car (Moore 1990; Sutton and Barto, example 10.1).

#[derive(Debug, Clone, Copy)]
pub(crate) struct MountainCar {
    pub(crate) x: f64,
    pub(crate) v: f64,
}

impl MountainCar {
    /// Pushes back (0), not (1) or forward (2); whether the goal is reached.
    pub(crate) fn step(&mut self, action: usize) -> bool {
        self.v = (self.v + 0.001 * (action as f64 - 1.0) - 0.0025 * (3.0 * self.x).cos()).clamp(-0.07, 0.07);
        self.x = (self.x + self.v).clamp(-1.2, 0.5);
        if self.x <= -1.2 {
            self.v = 0.0;
        }
        self.x >= 0.5
    }
}
