"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const count = data.parent.length;
  const textOf = (number) => (number < 0 ? "" : data.texts[number]);
  const SIGNS = { done: "✓", failed: "✗", skipped: "○", "goes on": "↻", "not ended": "…" };
  const stateOf = (place) => textOf(data.state[place]);

  function lasting(seconds) {
    if (seconds < 0.9995) return `${Number((seconds * 1000).toPrecision(3))}ms`;
    if (seconds < 59.95) return `${Number(seconds.toFixed(2))}s`;
    const whole = Math.round(seconds);
    if (whole < 3600) return `${Math.floor(whole / 60)}m ${whole % 60}s`;
    return `${Math.floor(whole / 3600)}h ${Math.floor((whole % 3600) / 60)}m`;
  }

  // Users' texts become text nodes only, never HTML, and bdi keeps their direction to themselves.
  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // The places, as a tree that is made as it is opened.
  const BATCH = 100;
  const inside = Array.from({ length: count }, () => []);
  const roots = [];
  for (let place = 0; place < count; place++) (data.parent[place] < 0 ? roots : inside[data.parent[place]]).push(place);
  const items = new Array(count);

  function rowOf(place) {
    const row = element("div", "row");
    row.tabIndex = -1;
    if (inside[place].length) {
      const opener = element("button", "opener", "▸");
      opener.type = "button";
      opener.setAttribute("aria-expanded", "false");
      opener.setAttribute("aria-label", `What is inside ${textOf(data.title[place])}`);
      opener.addEventListener("click", () => open(place, opener.getAttribute("aria-expanded") === "false"));
      row.append(opener);
    } else row.append(element("span", "gap"));
    const state = stateOf(place);
    const title = textOf(data.title[place]);
    const name = textOf(data.name[place]);
    row.append(element("span", `state s-${state.replace(/ /g, "-")}`, `${SIGNS[state] || ""} ${state}`));
    row.append(element("bdi", "", title));
    if (name && name !== title && !title.startsWith(`${name}#`)) row.append(element("bdi", "told", name));
    const told = [];
    if (inside[place].length) told.push(`${inside[place].length.toLocaleString("en")} inside`);
    if (data.attempt[place] > 1) told.push(`attempt ${data.attempt[place]}`);
    if (data.turn[place]) told.push(`turn ${data.turn[place]}`);
    if (data.took[place]) told.push(lasting(data.took[place]));
    if (told.length) row.append(element("span", "told", told.join(", ")));
    if (data.detail[place] >= 0) row.append(element("bdi", state === "failed" ? "s-failed" : "told", textOf(data.detail[place])));
    if (data.preview[place] >= 0) row.append(element("code", "", textOf(data.preview[place])));
    return row;
  }

  function fill(list, places, from, until) {
    for (let at = from; at < until; at++) {
      const item = element("li");
      item.append(rowOf(places[at]));
      items[places[at]] = item;
      list.append(item);
    }
    list.shown = until;
    if (list.more) list.more.remove();
    list.more = null;
    if (until < places.length) {
      const next = Math.min(places.length, until + BATCH);
      const button = element("button", "more", `Show ${next - until} of ${(places.length - until).toLocaleString("en")} more`);
      button.type = "button";
      button.addEventListener("click", () => {
        fill(list, places, until, next);
        items[places[until]].firstChild.focus();
      });
      list.more = element("li");
      list.more.append(button);
      list.append(list.more);
    }
  }

  function open(place, opens) {
    const item = items[place];
    const opener = item.querySelector(".opener");
    if (!opener) return;
    opener.setAttribute("aria-expanded", String(opens));
    opener.textContent = opens ? "▾" : "▸";
    if (opens && !item.inner) {
      item.inner = element("ul");
      fill(item.inner, inside[place], 0, Math.min(BATCH, inside[place].length));
      item.append(item.inner);
    }
    if (item.inner) item.inner.hidden = !opens;
  }

  const tree = document.getElementById("tree");
  fill(tree, roots, 0, Math.min(BATCH, roots.length));

  let chosen = null;
  function choose(place) {
    const way = [];
    for (let step = place; step >= 0; step = data.parent[step]) way.unshift(step);
    way.forEach((step, depth) => {
      const list = depth ? items[way[depth - 1]].inner : tree;
      const places = depth ? inside[way[depth - 1]] : roots;
      const at = places.indexOf(step);
      if (at >= list.shown) fill(list, places, list.shown, Math.min(places.length, at + 20));
      if (depth < way.length - 1) open(step, true);
    });
    if (chosen) chosen.classList.remove("chosen");
    chosen = items[place].firstChild;
    chosen.classList.add("chosen");
    chosen.scrollIntoView({ block: "center" });
    chosen.focus({ preventScroll: true });
  }
  for (const source of document.querySelectorAll("[data-place]")) {
    source.addEventListener("click", () => choose(Number(source.dataset.place)));
    if (source.tagName !== "BUTTON") {
      source.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        choose(Number(source.dataset.place));
      });
    }
  }

  // The table of tasks.
  const body = document.querySelector("tbody");
  const heads = [...document.querySelectorAll("thead th")];
  const rows = [...body.rows];
  heads.forEach((head, column) => {
    head.firstChild.addEventListener("click", () => {
      const was = head.getAttribute("aria-sort");
      const order = was ? (was === "ascending" ? "descending" : "ascending") : column ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => (column ? Number(row.cells[column].dataset.value) : row.cells[0].textContent);
      const compare = (a, b) => (column ? value(a) - value(b) : value(a).localeCompare(value(b)));
      body.append(...rows.sort((a, b) => sign * compare(a, b)));
    });
  });
  const filter = document.getElementById("filter");
  const onlyFailed = document.getElementById("only-failed");
  function narrow() {
    const wanted = filter.value.trim().toLowerCase();
    let left = 0;
    for (const row of rows) {
      const fits = row.cells[0].textContent.toLowerCase().includes(wanted) && (!onlyFailed.checked || row.classList.contains("bad"));
      row.hidden = !fits;
      left += fits;
    }
    document.getElementById("filtered").textContent = left === rows.length ? "" : `${left} of ${rows.length}`;
  }
  filter.addEventListener("input", narrow);
  onlyFailed.addEventListener("change", narrow);

  // The timeline: calls in lanes, each in the first lane that is free when it begins.
  const PALETTE = ["#2f6fde", "#0f7f5f", "#a55d08", "#7c4ddb", "#0b7695", "#b83280", "#5c6e0e", "#8a5527"];
  const OTHER = "#68717f";
  const calls = [];
  for (let place = 0; place < count; place++) if (data.took[place] > 0 && !data.map[place]) calls.push(place);
  calls.sort((a, b) => data.began[a] - data.began[b]);
  const spent = new Map();
  for (const place of calls) spent.set(data.name[place], (spent.get(data.name[place]) || 0) + data.took[place]);
  const names = [...spent.keys()].sort((a, b) => spent.get(b) - spent.get(a));
  const colorOf = new Map(names.map((name, at) => [name, PALETTE[at] || OTHER]));
  const endOf = (place) => data.began[place] + data.took[place];

  // A heap: ten thousand calls in ten thousand lanes are laid out in a moment.
  class Heap {
    constructor(key) {
      this.key = key;
      this.all = [];
    }
    get first() {
      return this.all[0];
    }
    push(item) {
      const { all, key } = this;
      let at = all.push(item) - 1;
      for (let above = (at - 1) >> 1; at && key(all[above]) > key(item); at = above, above = (at - 1) >> 1) all[at] = all[above];
      all[at] = item;
    }
    pop() {
      const { all, key } = this;
      const taken = all[0];
      const item = all.pop();
      for (let at = 0; all.length; ) {
        let below = 2 * at + 1;
        if (below + 1 < all.length && key(all[below + 1]) < key(all[below])) below++;
        if (below >= all.length || key(all[below]) >= key(item)) {
          all[at] = item;
          break;
        }
        all[at] = all[below];
        at = below;
      }
      return taken;
    }
  }
  // What calls ran on, each with rows of its own; what is not known comes last.
  const NOWHERE = "not known";
  const placeOf = (place) => textOf(data.on[place]) || NOWHERE;
  const parts = [...new Set(calls.map(placeOf))].sort((a, b) => (a === NOWHERE) - (b === NOWHERE) || (a < b ? -1 : 1));
  const saysWhere = parts.some((part) => part !== NOWHERE);
  const partOf = new Map(
    parts.map((name) => [name, { name, lanes: [], busy: new Heap((lane) => lane.until), free: new Heap((lane) => lane.number) }]),
  );
  for (const place of calls) {
    const { lanes, busy, free } = partOf.get(placeOf(place));
    while (busy.first && busy.first.until <= data.began[place] + 1e-6) free.push(busy.pop());
    if (!free.first) free.push(lanes[lanes.push({ number: lanes.length, places: [], until: 0 }) - 1]);
    const lane = free.pop();
    lane.places.push(place);
    lane.until = endOf(place);
    busy.push(lane);
  }
  const lanes = [...partOf.values()].flatMap((part) => part.lanes);

  const canvas = document.getElementById("chart");
  const tip = document.getElementById("tip");
  const shownWindow = document.getElementById("window");
  const first = calls.length ? data.began[calls[0]] : 0;
  const last = calls.reduce((latest, place) => Math.max(latest, endOf(place)), first);
  const whole = Math.max(last - first, 1e-6);
  const view = { from: first, span: whole };
  const AXIS = 22;
  const laneHeight = Math.min(18, 420 / Math.max(1, lanes.length));
  const STRIP = saysWhere ? 18 : 0;
  let below = AXIS;
  for (const part of partOf.values()) {
    part.top = below;
    below += STRIP;
    for (const lane of part.lanes) {
      lane.top = below;
      below += laneHeight;
    }
  }
  const height = Math.ceil(Math.max(below, AXIS + laneHeight)) + 4;
  let width = 0;
  let asked = false;

  function draw() {
    asked = false;
    const scale = window.devicePixelRatio || 1;
    width = canvas.clientWidth;
    canvas.style.height = `${height}px`;
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
    const style = getComputedStyle(document.documentElement);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const perSecond = width / view.span;
    axis(pen, perSecond, style);
    const failed = style.getPropertyValue("--failed");
    const until = view.from + view.span;
    const barHeight = Math.max(1, laneHeight - (laneHeight > 6 ? 3 : 0));
    let bars = 0;
    const covered = new Map();
    const bad = [];
    const bar = (place, left, right, top, color) => {
      pen.fillStyle = color;
      pen.fillRect(left, top, Math.max(1, right - left - (right - left > 3 ? 1 : 0)), barHeight);
      bars++;
      if (barHeight > 11 && right - left > 40) label(pen, textOf(data.name[place]) || textOf(data.title[place]), left, top, right - left, barHeight);
    };
    lanes.forEach((lane) => {
      const top = lane.top;
      const row = Math.floor(top);
      if (!covered.has(row)) covered.set(row, new Uint8Array(Math.ceil(width) + 2));
      const pixels = covered.get(row);
      for (let at = firstIn(lane.places); at < lane.places.length; at++) {
        const place = lane.places[at];
        if (data.began[place] > until) break;
        const start = (data.began[place] - view.from) * perSecond;
        const right = Math.min(width + 1, Math.max(start + data.took[place] * perSecond, start + 1));
        const left = Math.max(-1, start);
        if (stateOf(place) === "failed") {
          bad.push([place, left, right, top, failed]);
          continue;
        }
        // Where ten thousand bars share a row of pixels, most of them would not be seen.
        const from = Math.max(0, Math.floor(left));
        const to = Math.max(from + 1, Math.min(pixels.length, Math.floor(right)));
        const seen = pixels.indexOf(0, from);
        if (seen < 0 || seen >= to) continue;
        pixels.fill(1, from, to);
        bar(place, left, right, top, colorOf.get(data.name[place]));
      }
    });
    bad.forEach((one) => bar(...one));
    if (STRIP) for (const part of partOf.values()) strip(pen, part, style);
    canvas.dataset.bars = String(bars);
    canvas.dataset.lanes = String(lanes.length);
    canvas.dataset.parts = parts.join(", ");
    shownWindow.textContent = calls.length ? `${lasting(view.span)} from ${lasting(Math.max(0, view.from - first))} on, ${calls.length.toLocaleString("en")} calls in ${rowsTold()}` : "no call took time";
  }

  function rowsTold() {
    const told = (number) => `${number.toLocaleString("en")} ${number === 1 ? "row" : "rows"}`;
    if (!saysWhere) return told(lanes.length);
    return [...partOf.values()].map((part) => `${told(part.lanes.length)} of ${part.name === NOWHERE ? "what is not known" : part.name}`).join(", ");
  }

  function strip(pen, part, style) {
    pen.fillStyle = style.getPropertyValue("--rule");
    pen.fillRect(0, part.top + STRIP - 2, width, 1);
    pen.fillStyle = style.getPropertyValue("--dim");
    pen.direction = "ltr";
    pen.font = "600 11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.fillText(part.name.slice(0, 60), 2, part.top + STRIP / 2 - 1);
  }

  function label(pen, text, left, top, room, barHeight) {
    pen.save();
    pen.beginPath();
    pen.rect(left, top, room - 3, barHeight);
    pen.clip();
    pen.fillStyle = "#fff";
    pen.direction = "ltr";
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.fillText(text.slice(0, 60), Math.max(left, 0) + 4, top + barHeight / 2 + 0.5);
    pen.restore();
  }

  function axis(pen, perSecond, style) {
    const rough = 90 / perSecond;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "top";
    for (let tick = Math.ceil((view.from - first) / step); tick * step <= view.from - first + view.span; tick++) {
      const x = Math.round((tick * step - (view.from - first)) * perSecond) + 0.5;
      pen.fillStyle = style.getPropertyValue("--rule");
      pen.fillRect(x, AXIS - 6, 1, height);
      pen.fillStyle = style.getPropertyValue("--dim");
      if (x < width - 40) pen.fillText(lasting(tick * step), x + 3, 3);
    }
  }

  function firstIn(places) {
    let low = 0;
    let high = places.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (endOf(places[middle]) < view.from) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function redraw() {
    if (!asked) {
      asked = true;
      requestAnimationFrame(draw);
    }
  }
  function look(from, span) {
    view.span = Math.min(whole, Math.max(span, whole / 1e6, 1e-6));
    view.from = Math.min(Math.max(from, first), first + whole - view.span);
    tip.hidden = true;
    redraw();
  }
  function zoom(factor, x = width / 2) {
    const at = view.from + (x / width) * view.span;
    const span = Math.min(whole, view.span * factor);
    look(at - (x / width) * span, span);
  }
  const COMMANDS = { in: () => zoom(0.5), out: () => zoom(2), all: () => look(first, whole) };
  for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", COMMANDS[button.dataset.zoom]);
  canvas.addEventListener("keydown", (event) => {
    const keys = {
      ArrowLeft: () => look(view.from - view.span / 8, view.span),
      ArrowRight: () => look(view.from + view.span / 8, view.span),
      "+": COMMANDS.in, "=": COMMANDS.in, "-": COMMANDS.out, 0: COMMANDS.all,
    };
    if (event.ctrlKey || event.metaKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(Math.exp(event.deltaY / 300), event.offsetX);
  }, { passive: false });

  let grabbed = null;
  canvas.addEventListener("pointerdown", (event) => {
    grabbed = { x: event.offsetX, from: view.from, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (grabbed) {
      const moved = event.offsetX - grabbed.x;
      grabbed.moved = grabbed.moved || Math.abs(moved) > 3;
      if (grabbed.moved) look(grabbed.from - (moved / width) * view.span, view.span);
    } else hover(event);
  });
  canvas.addEventListener("pointerup", (event) => {
    const place = grabbed && !grabbed.moved ? at(event.offsetX, event.offsetY) : -1;
    grabbed = null;
    if (place >= 0) choose(place);
  });
  canvas.addEventListener("pointercancel", () => { grabbed = null; });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });

  function at(x, y) {
    const lane = lanes.find((one) => y >= one.top && y < one.top + laneHeight);
    if (!lane) return -1;
    const slack = (2 / width) * view.span;
    const moment = view.from + (x / width) * view.span;
    for (const place of lane.places.slice(firstIn(lane.places))) {
      if (data.began[place] - slack > moment) return -1;
      if (endOf(place) + slack >= moment) return place;
    }
    return -1;
  }

  function hover(event) {
    const place = at(event.offsetX, event.offsetY);
    tip.hidden = place < 0;
    if (place < 0) return;
    const lines = [`${textOf(data.name[place])} ${textOf(data.title[place])}`, `${stateOf(place)}, ${lasting(data.took[place])}${data.attempt[place] > 1 ? `, attempt ${data.attempt[place]}` : ""}${data.on[place] < 0 ? "" : `, on: ${textOf(data.on[place])}`}`];
    if (data.detail[place] >= 0) lines.push(textOf(data.detail[place]));
    if (data.preview[place] >= 0) lines.push(textOf(data.preview[place]));
    tip.textContent = lines.join("\n");
    tip.style.left = `${Math.max(0, Math.min(event.offsetX + 12, width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${event.offsetY + 16}px`;
  }

  const legend = document.getElementById("legend");
  function explain(color, text) {
    const item = element("li");
    const mark = element("i");
    mark.style.background = color;
    item.append(mark, element("bdi", "", text));
    legend.append(item);
  }
  for (const name of names.slice(0, PALETTE.length)) explain(colorOf.get(name), textOf(name));
  if (names.length > PALETTE.length) explain(OTHER, `${names.length - PALETTE.length} more`);

  new ResizeObserver(redraw).observe(canvas.parentElement);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  draw();
  document.getElementById("needs-script").remove();
})();
