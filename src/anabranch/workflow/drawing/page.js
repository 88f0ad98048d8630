"use strict";
// Nothing here writes markup: details are copied, as nodes, from what the page holds.
for (const stage of document.querySelectorAll(".stage")) {
  const view = stage.querySelector(".view");
  const svg = view.querySelector("svg");
  const aside = stage.querySelector("aside");
  const hint = aside.firstElementChild.cloneNode(true);
  const nodes = [...svg.querySelectorAll(".node")];
  const edges = [...svg.querySelectorAll(".edge")];
  const size = { x: svg.viewBox.baseVal.width, y: svg.viewBox.baseVal.height };
  let x = 0, y = 0, scale = 1, chosen = null, held = null, moved = false;

  const show = () => {
    svg.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  };
  const zoom = (factor, px = view.clientWidth / 2, py = view.clientHeight / 2) => {
    const next = Math.min(6, Math.max(0.05, scale * factor));
    x = px - ((px - x) * next) / scale;
    y = py - ((py - y) * next) / scale;
    scale = next;
    show();
  };
  // Everything if it is readable then; else the top, and the rest is a drag away.
  const fit = (least) => {
    const whole = Math.min(view.clientWidth / size.x, view.clientHeight / size.y, 1.15);
    const wide = Math.min(view.clientWidth / size.x, 1);
    scale = Math.max(whole, Math.min(least, Math.max(wide, least * 0.75)));
    x = (view.clientWidth - size.x * scale) / 2;
    y = Math.max(0, (view.clientHeight - size.y * scale) / 2);
    if (size.x * scale > view.clientWidth) {
      const first = nodes.find((node) => node.classList.contains("start")) || nodes[0];
      const box = first.getBBox();
      const at = first.transform.baseVal.consolidate().matrix.e + box.width / 2;
      x = Math.min(0, Math.max(view.clientWidth - size.x * scale, view.clientWidth / 2 - at * scale));
    }
    show();
  };
  const tell = (node) => {
    const known = node && document.getElementById(`known-${node.dataset.node}`);
    aside.replaceChildren(...(known ? [...known.cloneNode(true).childNodes] : [hint]));
    view.classList.toggle("looking", Boolean(node));
    for (const one of nodes) one.classList.toggle("near", one === node);
    for (const edge of edges) {
      const ends = [edge.dataset.from, edge.dataset.to];
      const near = Boolean(node) && ends.includes(node.dataset.node);
      edge.classList.toggle("near", near);
      if (near)
        for (const one of nodes)
          if (ends.includes(one.dataset.node)) one.classList.add("near");
    }
  };
  const choose = (node) => {
    if (chosen) chosen.classList.remove("chosen");
    chosen = node === chosen ? null : node;
    if (chosen) chosen.classList.add("chosen");
    tell(chosen);
  };
  for (const node of nodes) {
    node.tabIndex = 0;
    node.setAttribute("role", "button");
    node.setAttribute("aria-label", node.querySelector("title").textContent);
    node.querySelector("title").remove(); // the panel tells it
    node.addEventListener("pointerenter", () => { if (!held) tell(node); });
    node.addEventListener("pointerleave", () => { if (!held) tell(chosen); });
    node.addEventListener("focus", () => {
      tell(node);
      const box = node.getBoundingClientRect(), frame = view.getBoundingClientRect();
      if (box.left < frame.left || box.right > frame.right)
        x += frame.left + frame.width / 2 - (box.left + box.right) / 2;
      if (box.top < frame.top || box.bottom > frame.bottom)
        y += frame.top + frame.height / 2 - (box.top + box.bottom) / 2;
      view.scrollTo(0, 0);
      show();
    });
    node.addEventListener("blur", () => tell(chosen));
  }
  view.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("button")) return;
    held = { x: event.clientX - x, y: event.clientY - y, node: event.target.closest(".node") };
    moved = false;
  });
  view.addEventListener("pointermove", (event) => {
    if (!held) return;
    const nx = event.clientX - held.x, ny = event.clientY - held.y;
    if (!moved && Math.abs(nx - x) + Math.abs(ny - y) < 4) return;
    if (!moved) view.setPointerCapture(event.pointerId);
    moved = true;
    view.classList.add("held");
    x = nx;
    y = ny;
    show();
  });
  const release = () => {
    if (held && !moved) {
      if (held.node) choose(held.node);
      else if (chosen) choose(chosen);
    }
    held = null;
    view.classList.remove("held");
  };
  view.addEventListener("pointerup", release);
  view.addEventListener("pointercancel", () => { held = null; view.classList.remove("held"); });
  view.addEventListener("wheel", (event) => {
    event.preventDefault();
    const frame = view.getBoundingClientRect();
    if (event.ctrlKey || event.metaKey || !event.shiftKey)
      zoom(Math.exp(-event.deltaY / 500), event.clientX - frame.left, event.clientY - frame.top);
    else { x -= event.deltaY; show(); }
  }, { passive: false });
  const doings = {
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), "0": () => fit(0),
    ArrowLeft: () => { x += 60; show(); }, ArrowRight: () => { x -= 60; show(); },
    ArrowUp: () => { y += 60; show(); }, ArrowDown: () => { y -= 60; show(); },
    Escape: () => { if (chosen) choose(chosen); },
  };
  stage.addEventListener("keydown", (event) => {
    const node = event.target.closest(".node");
    if (node && (event.key === "Enter" || event.key === " ")) choose(node);
    else if (event.target.closest("aside") || event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key in doings) doings[event.key]();
    else return;
    event.preventDefault();
  });
  for (const button of stage.querySelectorAll("[data-do]"))
    button.addEventListener("click", () => doings[button.dataset.do]());
  fit(0.8);
  addEventListener("resize", () => fit(0.8));
}
for (const button of document.querySelectorAll("[data-copy]"))
  button.addEventListener("click", () => {
    const text = button.parentElement.querySelector("pre").textContent;
    if (navigator.clipboard) navigator.clipboard.writeText(text);
  });
