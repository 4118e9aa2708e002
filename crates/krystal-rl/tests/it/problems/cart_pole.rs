//! The cart with a pole (Barto, Sutton and Anderson 1983), as Gymnasium's `CartPole-v1`.

#[derive(Debug, Clone, Copy)]
pub(crate) struct CartPole {
    pub(crate) state: [f64; 4],
}

impl CartPole {
    /// Pushes left (0) or right (1); whether the pole has fallen or the cart left the track.
    pub(crate) fn step(&mut self, action: usize) -> bool {
        let [x, x_dot, theta, theta_dot] = self.state;
        let force = if action == 1 { 10.0 } else { -10.0 };
        let (sin, cos) = theta.sin_cos();
        let push = (force + 0.05 * theta_dot * theta_dot * sin) / 1.1;
        let theta_acc = (9.8 * sin - cos * push) / (0.5 * (4.0 / 3.0 - 0.1 * cos * cos / 1.1));
        let x_acc = push - 0.05 * theta_acc * cos / 1.1;
        self.state = [x + 0.02 * x_dot, x_dot + 0.02 * x_acc, theta + 0.02 * theta_dot, theta_dot + 0.02 * theta_acc];
        self.state[0].abs() > 2.4 || self.state[2].abs() > 12.0_f64.to_radians()
    }
}
