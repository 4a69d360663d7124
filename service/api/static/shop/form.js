// A form from an MIP-003 schema: a control for each field, its faults beside it.
import { el, say } from "./dom.js";
import { MOMENTS, faultsOf, fieldsOf, isListed, isOptional, isUnsent, valuesOf } from "./rules.js";

/** More choices than this are easier found in a list than on the page. */
const MOST_BUTTONS = 8;
/** Native inputs by type; whatever is not here is a plain line of text. */
const INPUTS = new Set(["email", "url", "tel", "search", "password", ...Object.keys(MOMENTS)]);
let forms = 0;

export class Form {
  /** `send(input)` is called with what keeps all the rules. */
  constructor(schema, { label, send }) {
    forms += 1;
    this.fields = new Map();
    this.button = el("button", { type: "submit", class: "primary" }, label);
    this.note = el("div", { class: "formnote", role: "alert" });
    this.element = el("form", { novalidate: true, autocomplete: "off" },
      ...parts(schema, (field, i) => this.row(field, `form${forms}-${i}`)),
      this.note, el("p", {}, this.button));
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.button.getAttribute("aria-disabled") !== "true" && this.check()) send(this.input());
    });
  }

  /** One field with its label, hint, control and place for faults. */
  row(field, id) {
    const data = field.data || {};
    const hint = data.description && el("p", { class: "hint", id: `${id}-hint` }, data.description);
    if (field.type === "hidden") return null;
    const name = [data.label || field.name, isOptional(field) && el("span", { class: "optional" }, " optional")];
    if (field.type === "none") return el("div", { class: "row" }, el("p", {}, name[0]), hint);
    const fault = el("p", { class: "fault", id: `${id}-fault` });
    const described = [hint && `${id}-hint`, `${id}-fault`].filter(Boolean).join(" ");
    const required = !isOptional(field) && "true";
    const control = controlFor(field, { id, "aria-describedby": described, "aria-required": required });
    const entry = { field, control, fault };
    this.fields.set(field.id, entry);
    control.node.addEventListener("change", () => this.recheck(entry));
    control.node.addEventListener("input", () => { if (fault.textContent) this.recheck(entry); });
    if (control.inline) {
      const label = el("label", { class: "tick" }, control.node, el("span", {}, ...name));
      return el("div", { class: "row" }, label, hint, fault);
    }
    if (control.several) {
      return el("fieldset", { class: "row choices", "aria-describedby": described },
        el("legend", {}, ...name), hint, control.node, fault);
    }
    const under = el("div", { class: "under" }, fault, counter(field, control));
    return el("div", { class: "row" }, el("label", { for: id }, ...name), hint, control.node, under);
  }

  recheck(entry) {
    this.mark(entry, entry.control.faults?.() || faultsOf(entry.field, entry.control.read()));
  }

  mark({ control, fault }, faults) {
    fault.textContent = faults.length ? sentence(faults.join("; ")) : "";
    for (const node of control.inputs) {
      if (faults.length) node.setAttribute("aria-invalid", "true");
      else node.removeAttribute("aria-invalid");
    }
  }

  /** Every field; the first fault gets the focus. */
  check() {
    const faulty = [...this.fields.values()].filter((entry) => {
      this.recheck(entry);
      return entry.fault.textContent;
    });
    this.note.replaceChildren();
    if (faulty.length) this.complain(faulty);
    return faulty.length === 0;
  }

  complain(faulty) {
    const many = faulty.length > 1 ? `${faulty.length} fields need` : "One field needs";
    this.note.replaceChildren(el("p", { class: "notice bad" }, `${many} another look.`));
    faulty[0].control.inputs[0].focus();
  }

  /** What the service found (its pointers are /input_data/<id>…); what has no field stands below. */
  show(errors) {
    const byField = new Map();
    const others = [];
    for (const { pointer, detail } of errors) {
      const token = /^\/input_data\/([^/]+)/.exec(pointer)?.[1];
      const id = token?.replaceAll("~1", "/").replaceAll("~0", "~");
      if (this.fields.has(id)) byField.set(id, [...(byField.get(id) || []), detail]);
      else others.push(`${pointer.replace(/^\/(input_data\/?)?/, "") || "The input"} ${detail}`);
    }
    for (const [id, faults] of byField) this.mark(this.fields.get(id), faults);
    if (byField.size) this.complain([...byField.keys()].map((id) => this.fields.get(id)));
    this.note.append(...others.map((text) => el("p", { class: "notice bad" }, sentence(text))));
    return byField.size + others.length > 0;
  }

  /** What is sent: the fields that hold something. */
  input() {
    const held = [...this.fields].map(([id, { control }]) => [id, control.read()]);
    return Object.fromEntries(held.filter(([, value]) => !isUnsent(value)));
  }

  fill(input) {
    for (const [id, entry] of this.fields) {
      entry.control.write(id in input ? input[id] : entry.field.data?.default);
      this.mark(entry, []);
    }
    this.note.replaceChildren();
    say("The form is filled in.");
  }

  busy(is) {
    // Not the attribute disabled: the focus would be lost.
    this.button.setAttribute("aria-disabled", String(is));
    this.button.classList.toggle("busy", is);
  }
}

function parts(schema, row) {
  let at = 0;
  if (schema.input_data) return schema.input_data.map((field) => row(field, at++));
  return schema.input_groups.map((group) => {
    const rows = group.input_data.map((field) => row(field, at++));
    return el("fieldset", { class: "group" }, el("legend", {}, group.title), ...rows);
  });
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

/** How much of the room for a text is taken. */
function counter(field, control) {
  const most = Math.min(...valuesOf(field, "max").map(Number));
  if (!["text", "string", "textarea"].includes(field.type) || !Number.isFinite(most)) return null;
  const shown = el("span", { class: "quiet", "aria-hidden": "true" });
  const draw = () => { shown.textContent = `${[...control.inputs[0].value].length} / ${most}`; };
  control.inputs[0].addEventListener("input", draw);
  control.drawn = draw;
  draw();
  return shown;
}

/** {node, inputs, read, write}; `several` buttons need a legend, `inline` has its label beside it. */
function controlFor(field, attributes) {
  const control = made(field, attributes);
  const write = control.write;
  control.write = (value) => { write(value); control.drawn?.(); };
  const fallback = field.data?.default;
  if (fallback !== undefined && fallback !== null) control.write(fallback);
  return control;
}

function made(field, attributes) {
  const data = field.data || {};
  if (isListed(field)) return choices(field, attributes);
  if (field.type === "boolean" || field.type === "checkbox") return tick(attributes);
  const shown = { placeholder: data.placeholder || MOMENTS[field.type]?.[1], ...attributes };
  if (field.type === "textarea") return line(el("textarea", { rows: 7, ...shown }));
  // A slider always says something: not where nothing may be said.
  const says = !isOptional(field) || typeof data.default === "number";
  if (field.type === "range" && typeof data.max === "number" && says) return slider(data, attributes);
  if (field.type === "number" || field.type === "range") return number(shown);
  if (field.type === "color") return color(attributes);
  if (field.type === "file") return files(field, attributes);
  const bounds = field.type in MOMENTS && { min: valuesOf(field, "min")[0], max: valuesOf(field, "max")[0] };
  const node = el("input", { type: INPUTS.has(field.type) ? field.type : "text", ...bounds, ...shown });
  const control = line(node);
  // Half a date reads as none.
  const half = [`must be a ${field.type} that exists`];
  control.faults = () => (node.validity.badInput ? half : faultsOf(field, control.read()));
  return control;
}

function line(node) {
  return { node, inputs: [node], read: () => node.value || null, write: (value) => { node.value = value ?? ""; } };
}

function number(attributes) {
  const node = el("input", { type: "number", step: "any", inputmode: "decimal", ...attributes });
  const read = () => {
    if (node.value === "") return node.validity.badInput ? "?" : null;
    const value = Number(node.value);
    // What a number cannot hold is sent, and refused, as it was written.
    const holds = Number.isInteger(value) ? Number.isSafeInteger(value) : Number.isFinite(value);
    return holds ? value : node.value;
  };
  return { node, inputs: [node], read, write: (value) => { node.value = value ?? ""; } };
}

function slider(data, attributes) {
  const shown = el("output", { for: attributes.id });
  const bounds = { min: data.min ?? 0, max: data.max, step: data.step ?? "any" };
  const node = el("input", { type: "range", ...bounds, ...attributes });
  const draw = () => { shown.textContent = node.value; };
  node.addEventListener("input", draw);
  draw();
  const write = (value) => { node.value = value ?? data.default ?? data.min ?? 0; draw(); };
  const both = el("div", { class: "slider" }, node, shown);
  return { node: both, inputs: [node], read: () => Number(node.value), write };
}

function tick(attributes) {
  const { "aria-required": _, ...rest } = attributes;
  const node = el("input", { type: "checkbox", ...rest });
  const write = (value) => { node.checked = value === true; };
  return { node, inputs: [node], inline: true, read: () => node.checked, write };
}

/** A text with a picker beside it: unlike the picker it can be empty. */
function color(attributes) {
  const node = el("input", { type: "text", placeholder: "#1e90ff", ...attributes });
  const picker = el("input", { type: "color", "aria-label": "Pick a colour" });
  picker.addEventListener("input", () => {
    node.value = picker.value;
    node.dispatchEvent(new Event("change", { bubbles: true }));
  });
  const draw = () => { picker.value = node.value; };
  node.addEventListener("input", draw);
  const write = (value) => { node.value = value ?? ""; draw(); };
  return { ...line(node), node: el("div", { class: "beside" }, node, picker), write };
}

function files(field, attributes) {
  const single = valuesOf(field, "max").includes("1");
  const node = single
    ? el("input", { type: "url", placeholder: "https://…", ...attributes })
    : el("textarea", { rows: 3, placeholder: "https://… (one address a line)", ...attributes });
  const read = () => node.value.split("\n").map((text) => text.trim()).filter(Boolean);
  const write = (value) => { node.value = [value ?? []].flat().join("\n"); };
  return { node, inputs: [node], read: () => (read().length ? read() : null), write };
}

/** One of a few: round buttons; one of many: a list; several: boxes to tick. */
function choices(field, attributes) {
  const { values } = field.data;
  const single = field.type === "radio" || valuesOf(field, "max").includes("1");
  const value = (items) => (items.length === 0 ? null : field.type === "radio" ? items[0] : items);
  const named = (given) => [given ?? []].flat().map((item) => (typeof item === "number" ? values[item] : item));
  const without = isOptional(field) && named(field.data.default).length === 0;
  if (single && values.length > MOST_BUTTONS) {
    const texts = [without ? "No choice" : "Choose …", ...values];
    const node = el("select", attributes, ...texts.map((text) => el("option", {}, text)));
    // By position: a browser trims the texts of its options.
    const read = () => value(node.selectedIndex > 0 ? [values[node.selectedIndex - 1]] : []);
    const write = (given) => { node.selectedIndex = 1 + values.indexOf(named(given)[0]); };
    return { node, inputs: [node], read, write };
  }
  const type = single ? "radio" : "checkbox";
  const described = attributes["aria-describedby"];
  const button = () => el("input", { type, name: attributes.id, "aria-describedby": described });
  const label = (input, text) => el("label", { class: "tick" }, input, el("span", {}, text));
  const inputs = values.map(button);
  const none = single && without ? button() : null;
  const labels = inputs.map((input, i) => label(input, values[i]));
  if (none) labels.push(label(none, "(no choice)"));
  const write = (given) => {
    inputs.forEach((input, i) => { input.checked = named(given).includes(values[i]); });
    if (none) none.checked = named(given).length === 0;
  };
  write(null);
  const read = () => value(values.filter((_, i) => inputs[i].checked));
  return { node: el("div", { class: "buttons" }, ...labels), inputs, read, write, several: true };
}

/** Does it ask for what is not to be kept in the browser? */
export function hasSecrets(schema) {
  return fieldsOf(schema).some((field) => field.type === "password");
}
