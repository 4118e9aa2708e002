"""Numbers that krystal-phase's tail fits are tested against, by the Python packages powerlaw and mpmath.

The data are the same on both sides, by a formula: x_i = (1 - u_i)^(-1/1.5) at u_i = (i + 1/2) / n, a power law of
exponent 2.5 without noise, and lognormal quantiles at the same u_i. Run: python tools/oracles/power_law.py
"""

import numpy as np
import powerlaw
from mpmath import mp, erfinv, mpf

N = 2000
u = (np.arange(N) + 0.5) / N
power = (1 - u) ** (-1 / 1.5)
mp.dps = 30
lognormal = np.array([float(mp.exp(mp.sqrt(2) * erfinv(2 * mpf(x) - 1))) for x in u])
rounded = np.floor(power * 10 + 0.5)


def report(name, data, **options):
    fit = powerlaw.Fit(data, verbose=False, **options)
    line = f"{name}: alpha {fit.power_law.alpha:.6f} xmin {fit.power_law.xmin:.6g} D {fit.power_law.D:.6f} sigma {fit.power_law.sigma:.6f}"
    for rival in ("lognormal", "exponential"):
        ratio, p = fit.distribution_compare("power_law", rival)
        line += f" {rival} R {float(ratio):.4f} p {float(p):.4g}"
    print(line)


report("power, xmin 1", power, xmin=1.0)
report("power, xmin 2", power, xmin=2.0)
report("lognormal, xmin 1", lognormal, xmin=1.0)
report("lognormal, xmin 3", lognormal, xmin=3.0)
report("rounded, xmin 15", rounded, xmin=15, discrete=True)
report("rounded, xmin 40", rounded, xmin=40, discrete=True)
report("rounded lognormal, xmin 15", np.floor(lognormal * 10 + 0.5)[lognormal > 0.1], xmin=15, discrete=True)
