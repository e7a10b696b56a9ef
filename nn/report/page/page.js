"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // ---- values of curves under the pointer ----

  const hover = document.createElement("div");
  hover.id = "hover";
  hover.hidden = true;
  document.body.append(hover);
  for (const chart of document.querySelectorAll("svg[data-hover]")) {
    const curves = JSON.parse(chart.dataset.hover);
    const cursor = chart.querySelector(".cursor");
    // [epoch, its x in the picture], of all curves
    const epochs = new Map(curves.flatMap((curve) => curve.points.map(([epoch, x]) => [epoch, x])));
    const show = (event) => {
      const box = chart.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
      const [epoch, at] = [...epochs].reduce((a, b) => (Math.abs(b[1] - x) < Math.abs(a[1] - x) ? b : a));
      const lines = curves.map(({ name, points }) => {
        const found = points.find((point) => point[0] === epoch);
        return found ? `\n${name} ${found[2]}` : "";
      });
      hover.textContent = `epoch ${epoch}${lines.join("")}`;
      hover.hidden = false;
      cursor.removeAttribute("hidden");
      cursor.setAttribute("x1", at);
      cursor.setAttribute("x2", at);
      const right = event.pageX + 14 + hover.offsetWidth > document.documentElement.clientWidth;
      hover.style.left = `${right ? event.pageX - 14 - hover.offsetWidth : event.pageX + 14}px`;
      hover.style.top = `${event.pageY + 14}px`;
    };
    chart.addEventListener("pointermove", show);
    chart.addEventListener("pointerleave", () => {
      hover.hidden = true;
      cursor.setAttribute("hidden", "");
    });
  }

  // ---- the network: the other half of nn/report/embedded.py ----

  const network = JSON.parse(byId("network").textContent);
  if (!network) return;

  function numbers(packed) {
    const bytes = Uint8Array.from(atob(packed.data), (letter) => letter.charCodeAt(0));
    if (packed.bits === 32) return new Float32Array(bytes.buffer);
    if (!packed.factors) return bytes;
    const factors = numbers(packed.factors);
    const found = new Float32Array(packed.count);
    const limit = 2 ** (packed.bits - 1) - 1;
    let [bits, length, next] = [0, 0, 0]; // bits read, how many they are, and the next byte
    for (let index = 0; index < found.length; index++) {
      for (; length < packed.bits; length += 8) bits |= bytes[next++] << length;
      found[index] = ((bits & (2 ** packed.bits - 1)) - limit) * factors[index % factors.length];
      bits >>>= packed.bits;
      length -= packed.bits;
    }
    return found;
  }

  // The distribution function of the normal distribution, to 2e-7: Abramowitz and Stegun, formula 7.1.26.
  function normal(z) {
    const t = 1 / (1 + (0.3275911 * Math.abs(z)) / Math.SQRT2);
    const series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    const tail = 0.5 * series * Math.exp((-z * z) / 2);
    return z < 0 ? tail : 1 - tail;
  }

  const elementwise = {
    identity: (z) => z,
    sigmoid: (z) => 0.5 + 0.5 * Math.tanh(0.5 * z),
    tanh: (z) => Math.tanh(z),
    relu: (z) => (z <= 0 ? 0 : z),
    leaky_relu: (z, slope = 0.01) => (z < 0 ? slope * z : z),
    elu: (z, alpha = 1) => (z < 0 ? alpha * Math.expm1(z) : z),
    gelu: (z) => z * normal(z),
    gelu_tanh: (z) => 0.5 * z * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (z + 0.044715 * z ** 3))),
    silu: (z) => 0.5 * z * (1 + Math.tanh(0.5 * z)),
    softplus: (z) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z))),
  };

  // name: as in Python, perhaps with a number, "leaky_relu(0.2)"; z is overwritten
  function activate(z, name) {
    if (name === "identity") return z;
    if (name === "softmax") {
      const largest = Math.max(...z);
      const powers = z.map((value) => Math.exp(value - largest));
      const sum = powers.reduce((a, b) => a + b, 0);
      return powers.map((value) => value / sum);
    }
    const [, base, number] = name.match(/^(\w+)(?:\((.+)\))?$/);
    const [f, setting] = [elementwise[base], number === undefined ? undefined : Number(number)];
    for (let index = 0; index < z.length; index++) z[index] = f(z[index], setting);
    return z;
  }

  const mean = (x) => x.reduce((a, b) => a + b, 0) / x.length;

  // Windows that slide over a picture, (height, width, channels) one after the other. For each of them start(to), then
  // see(from, to, position) for each of its pixels that is on the picture and not on its padding, then end(to, seen).
  // from and to are indices of the first channels of a pixel of the picture and of the result, position is that in the
  // window, seen how many there were.
  function slide({ picture: [height, width, channels], size, stride, padding, grid: [rows, columns, outputs] }, { start, see, end }) {
    for (let row = 0, to = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, to += outputs) {
        const [top, left] = [row * stride[0] - padding[0], column * stride[1] - padding[1]];
        let seen = 0;
        start(to);
        for (let a = Math.max(0, -top); a < size[0] && top + a < height; a++) {
          for (let b = Math.max(0, -left); b < size[1] && left + b < width; b++, seen++) {
            see(((top + a) * width + left + b) * channels, to, a * size[1] + b);
          }
        }
        end(to, seen);
      }
    }
  }

  const nothing = () => {};

  const stages = {
    // by the statistics of the training rows, where there are any, else by those of the row itself
    normalize(x, stage) {
      const centre = mean(x);
      const spread = stage.running_variance ? 0 : mean(x.map((value) => (value - centre) ** 2));
      const columns = stage.running_mean ? stage.running_mean.length : x.length; // of a picture these are its channels
      return x.map((value, index) => {
        const column = index % columns;
        const deviation = value - (stage.running_mean ? stage.running_mean[column] : centre);
        const variance = stage.running_variance ? stage.running_variance[column] : spread;
        const normalized = deviation / Math.sqrt(variance + stage.epsilon);
        return normalized * (stage.weight ? stage.weight[column] : 1) + (stage.bias ? stage.bias[column] : 0);
      });
    },
    activation: (x, stage) => activate(x, stage.activation),
    linear(x, stage) {
      const z = stage.bias ? Float64Array.from(stage.bias) : new Float64Array(stage.outputs);
      x.forEach((value, row) => {
        if (value === 0) return;
        const start = row * stage.outputs;
        for (let column = 0; column < stage.outputs; column++) z[column] += value * stage.weight[start + column];
      });
      return activate(z, stage.activation);
    },
    conv2d(x, stage) {
      const { weight, bias, groups, picture, grid } = stage;
      const [channels, outputs] = [picture[2] / groups, grid[2] / groups]; // of a group
      const z = new Float64Array(grid[0] * grid[1] * grid[2]);
      slide(stage, {
        start: bias ? (to) => z.set(bias, to) : nothing,
        see(from, to, position) {
          for (let group = 0; group < groups; group++) {
            const first = to + group * outputs;
            for (let channel = 0; channel < channels; channel++) {
              const value = x[from + group * channels + channel];
              if (value === 0) continue;
              const start = (position * channels + channel) * grid[2] + group * outputs;
              for (let output = 0; output < outputs; output++) z[first + output] += value * weight[start + output];
            }
          }
        },
        end: nothing,
      });
      return activate(z, stage.activation);
    },
    max_pool2d(x, stage) {
      const [rows, columns, channels] = stage.grid;
      const y = new Float64Array(rows * columns * channels).fill(-Infinity);
      slide(stage, {
        start: nothing,
        see(from, to) {
          for (let c = 0; c < channels; c++) y[to + c] = Math.max(y[to + c], x[from + c]);
        },
        end: nothing,
      });
      return y;
    },
    avg_pool2d(x, stage) {
      const [rows, columns, channels] = stage.grid;
      const y = new Float64Array(rows * columns * channels);
      slide(stage, {
        start: nothing,
        see(from, to) {
          for (let c = 0; c < channels; c++) y[to + c] += x[from + c];
        },
        end(to, seen) {
          const count = stage.count_padding ? stage.size[0] * stage.size[1] : seen;
          for (let c = 0; c < channels; c++) y[to + c] /= count;
        },
      });
      return y;
    },
    // (channels, pixels) as (pixels, channels)
    channels_last: (x, { channels }) =>
      x.map((_, index) => x[(index % channels) * (x.length / channels) + Math.floor(index / channels)]),
  };

  for (const stage of network.stages) {
    for (const [name, value] of Object.entries(stage)) if (value.bits) stage[name] = numbers(value);
  }

  // Probabilities of the classes for a row of raw pixels.
  function forward(pixels) {
    let x = Float64Array.from(pixels, (value) => value * network.scale + network.shift);
    for (const stage of network.stages) x = stages[stage.kind](x, stage);
    return x.length === 1 ? [1 - x[0], x[0]] : [...x];
  }

  // ---- from a drawing to pixels like those of the training rows ----

  const pen = network.pen;
  const FINE = 8; // each pixel is the mean of so many squared
  const canvas = document.createElement("canvas");
  canvas.width = pen.width * FINE;
  canvas.height = pen.height * FINE;
  const fine = canvas.getContext("2d", { willReadFrequently: true });

  function stroke(context, lines, thickness, point) {
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = "#fff";
    context.lineWidth = thickness;
    for (const line of lines) {
      context.beginPath();
      context.moveTo(...point(line[0]));
      for (const each of line) context.lineTo(...point(each));
      context.stroke();
    }
  }

  // How much ink each pixel has, 0 to 1: the drawing scaled, its point (x, y) moved to the origin plus (left, top).
  function inked(lines, scale, left, top) {
    fine.clearRect(0, 0, canvas.width, canvas.height);
    stroke(fine, lines, pen.thickness * FINE, ([x, y]) => [(x * scale + left) * FINE, (y * scale + top) * FINE]);
    const { data } = fine.getImageData(0, 0, canvas.width, canvas.height);
    const ink = new Float64Array(pen.width * pen.height);
    for (let y = 0; y < canvas.height; y++) {
      for (let x = 0; x < canvas.width; x++) {
        const opacity = data[4 * (y * canvas.width + x) + 3];
        ink[Math.floor(y / FINE) * pen.width + Math.floor(x / FINE)] += opacity / (255 * FINE * FINE);
      }
    }
    return ink;
  }

  function pixelsOf(lines) {
    const points = lines.flat();
    const [xs, ys] = [points.map((point) => point[0]), points.map((point) => point[1])];
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    // A dot or a short line is not blown up to the size of a digit.
    const inner = (size) => Math.max(size - pen.thickness, 1);
    const scale = Math.min(
      inner(pen.size) / Math.max(x1 - x0, y1 - y0, 0.2),
      inner(pen.width) / Math.max(x1 - x0, 1e-6),
      inner(pen.height) / Math.max(y1 - y0, 1e-6),
    );
    // The middle of the drawing goes to the middle of the picture, then its centre of mass to where the rows have
    // theirs, as far as the drawing stays inside.
    const left = pen.width / 2 - (scale * (x0 + x1)) / 2;
    const top = pen.height / 2 - (scale * (y0 + y1)) / 2;
    const first = inked(lines, scale, left, top);
    let [mass, across, down] = [1e-9, 0, 0];
    first.forEach((value, index) => {
      mass += value;
      across += value * ((index % pen.width) + 0.5);
      down += value * (Math.floor(index / pen.width) + 0.5);
    });
    const within = (shift, size, extent) => {
      const most = Math.max(0, (size - scale * extent - pen.thickness) / 2);
      return Math.max(-most, Math.min(most, shift));
    };
    const right = within(pen.centre[1] - across / mass, pen.width, x1 - x0);
    const lower = within(pen.centre[0] - down / mass, pen.height, y1 - y0);
    return Array.from(inked(lines, scale, left + right, top + lower), (value) => {
      const raw = pen.paper + Math.min(value, 1) * (pen.ink - pen.paper);
      return pen.whole ? Math.round(raw) : Math.fround(raw);
    });
  }

  // ---- the pad, and what the network says ----

  const pad = byId("pad");
  const paper = pad.getContext("2d");
  const seen = byId("seen").getContext("2d");
  const MOST_BARS = 12;
  const MOST_WAIT = 100; // milliseconds; a network that takes longer answers when a line ends
  let lines = [];

  const bars = network.names.slice(0, MOST_BARS).map(() => {
    const [name, frame, share] = [document.createElement("dt"), document.createElement("dd"), document.createElement("dd")];
    const bar = document.createElement("span");
    frame.className = "bar";
    frame.append(bar);
    byId("bars").append(name, frame, share);
    return { name, bar, share };
  });

  function say(probabilities, what = "") {
    const order = network.names.map((_, index) => index);
    if (probabilities) order.sort((a, b) => probabilities[b] - probabilities[a]);
    const best = order[0];
    const shown = order.slice(0, MOST_BARS);
    if (network.names.length <= MOST_BARS) shown.sort((a, b) => a - b);
    shown.forEach((index, bar) => {
      const share = probabilities ? probabilities[index] : 0;
      bars[bar].name.textContent = network.names[index];
      bars[bar].bar.style.width = `${100 * share}%`;
      bars[bar].share.textContent = probabilities ? `${(100 * share).toFixed(1)} %` : "";
    });
    byId("answer").textContent = probabilities
      ? `It sees ${network.names[best]}, with probability ${(100 * probabilities[best]).toFixed(1)} %${what}.`
      : "Draw with the mouse or a finger.";
  }

  function see(pixels, what) {
    const image = seen.createImageData(pen.width, pen.height);
    pixels.forEach((value, index) => {
      const grey = (255 * (value - Math.min(pen.paper, pen.ink))) / (Math.abs(pen.ink - pen.paper) || 1);
      image.data.set([grey, grey, grey, 255], 4 * index);
    });
    seen.putImageData(image, 0, 0);
    const probabilities = forward(pixels);
    Object.assign(window.xpnet, { pixels, probabilities });
    say(probabilities, what);
  }

  function clear() {
    lines = [];
    paper.clearRect(0, 0, pad.width, pad.height);
    seen.clearRect(0, 0, pen.width, pen.height);
    Object.assign(window.xpnet, { pixels: null, probabilities: null });
    say(null);
  }

  function point(event) {
    const box = pad.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.width];
  }

  let drawing = false;
  pad.addEventListener("pointerdown", (event) => {
    if (!lines.length) clear(); // a test row may be there
    drawing = true;
    pad.setPointerCapture(event.pointerId);
    lines.push([point(event)]);
    draw();
  });
  pad.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    lines.at(-1).push(point(event));
    draw();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    pad.addEventListener(end, () => {
      if (!drawing) return;
      drawing = false;
      draw();
    });
  }

  let waited = 0; // for the last answer, in milliseconds
  function draw() {
    paper.clearRect(0, 0, pad.width, pad.height);
    stroke(paper, lines, (pad.width * pen.thickness) / Math.max(pen.width, pen.height), ([x, y]) => [
      x * pad.width,
      y * pad.width,
    ]);
    if (drawing && waited > MOST_WAIT) return;
    const start = performance.now();
    see(pixelsOf(lines));
    waited = performance.now() - start;
  }

  byId("clear").addEventListener("click", clear);
  let next = 0;
  byId("row").addEventListener("click", () => {
    const { pixels, label, row } = network.rows[next++ % network.rows.length];
    clear();
    see([...numbers(pixels)], `; test row ${row} is labelled ${label}`);
    paper.imageSmoothingEnabled = false;
    paper.drawImage(byId("seen"), 0, 0, pad.width, pad.height);
  });

  window.xpnet = { forward, rows: network.rows.map(({ pixels }) => [...numbers(pixels)]), pixels: null, probabilities: null };
  clear();
})();
