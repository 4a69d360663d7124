// What a reader of a page with poor sight, or none, would stumble over (contrast: WCAG 2, AA).
() => {
  const faults = [];
  const wide = document.documentElement.scrollWidth - innerWidth;
  if (wide > 0) faults.push(`the page is ${wide} px too wide`);
  for (const node of document.querySelectorAll("input, textarea, select")) {
    const named = node.labels?.length || node.ariaLabel;
    if (!named) faults.push(`no label: ${node.outerHTML}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  if (new Set(ids).size < ids.length) faults.push(`an id stands twice: ${ids}`);
  if (document.querySelectorAll("h1").length !== 1) faults.push("not exactly one h1");
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (color) => {
    const [r, g, b] = [...rgba(color)].slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let it = node; it; it = it.parentElement) {
      const color = getComputedStyle(it).backgroundColor;
      if (rgba(color)[3] === 255) return color;
    }
    return "white";
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const shown = walker.currentNode.data.trim() && node.checkVisibility();
    if (!shown || node.closest(".skip, :disabled")) continue;
    const style = getComputedStyle(node);
    const ink = node instanceof SVGElement ? style.fill : style.color;
    const pair = [light(ink), light(ground(node))].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    const text = node.outerHTML.slice(0, 120);
    if (contrast < 4.5) faults.push(`contrast ${contrast.toFixed(1)}: ${text}`);
  }
  return faults;
}
