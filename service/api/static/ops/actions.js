// What can be done by hand. Nothing is done without saying what it does, who does it, and why.
import { call, Problem } from "./api.js";
import { el, say } from "./dom.js";

const WHO = "tollgate.ops.who";

/**
 * Ask, do it, and tell what came of it. `fields`: further inputs, [{name, label, type, value, …}];
 * `order` makes the request's body of what was filled in.
 */
export function ask({ title, consequences, verb, path, fields = [], order = (filled) => filled, danger = false, done }) {
  const inputs = new Map();
  const field = ({ name, label, hint, ...attributes }) => {
    const input = el("input", { id: `ask-${name}`, name, required: true, autocomplete: "off", ...attributes });
    inputs.set(name, input);
    return el("p", { class: "row" }, el("label", { for: `ask-${name}` }, label), input, hint && el("span", { class: "hint" }, hint));
  };
  const fault = el("p", { class: "fault", role: "alert" });
  const confirm = el("button", { type: "submit", class: danger ? "danger" : "primary" }, verb);
  const cancel = el("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const form = el("form", { novalidate: false, onsubmit: send },
    el("h2", { id: "ask-title" }, title),
    consequences.map((text) => el("p", {}, text)),
    fields.map(field),
    field({ name: "reason", label: "Why", maxlength: 200, hint: "Kept, and shown to everybody here." }),
    field({ name: "by", label: "Who you are", maxlength: 60, value: remembered() }),
    fault,
    el("p", { class: "buttons" }, confirm, cancel));
  const dialog = el("dialog", { "aria-labelledby": "ask-title" }, form);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  (form.querySelector("input") || confirm).focus();

  async function send(event) {
    event.preventDefault();
    const filled = Object.fromEntries([...inputs].map(([name, input]) => [name, input.value.trim()]));
    remember(filled.by);
    confirm.disabled = true;
    fault.textContent = "";
    try {
      const { done: text } = await call(path, order(filled));
      dialog.close();
      say(text);
      done(text);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      fault.textContent = error.message;
      confirm.disabled = false;
    }
  }
}

function remembered() {
  try { return localStorage.getItem(WHO) || ""; } catch { return ""; }
}

function remember(who) {
  try { localStorage.setItem(WHO, who); } catch { /* then it is asked for again */ }
}

export function forceBreaker(state, done) {
  const open = state === "open";
  ask({
    title: `Hold the payment breaker ${state}`,
    consequences: open
      ? ["Every worker refuses paid orders at once (503) until the time is over or somebody resets it. Jobs already paid go on."]
      : ["Every worker calls the payment service whatever happens, also where it fails. What is called meanwhile is not counted."],
    verb: `Hold it ${state}`, danger: true, path: "breaker/force",
    fields: [{ name: "seconds", label: "For how many seconds", type: "number", min: 1, max: 86400, value: open ? 600 : 60 }],
    order: (filled) => ({ ...filled, state, seconds: Number(filled.seconds) }), done,
  });
}

export function resetBreaker(done) {
  ask({
    title: "Reset the payment breaker",
    consequences: ["It is closed in the whole fleet: nothing counted, no pause, held by nobody. If the payment service still fails, the next failures open it again."],
    verb: "Reset it", path: "breaker/reset", done,
  });
}

export function shadowPolicy(policy, done) {
  const shadow = !policy.shadow;
  ask({
    title: shadow ? `Put ${policy.name} on trial` : `Enforce ${policy.name}`,
    consequences: [
      shadow ? `“${policy.name}” goes on counting, but refuses nobody.` : `“${policy.name}” refuses again who is over ${policy.rate} (burst ${policy.burst}). It begins with full buckets.`,
      "The limits that hold now are published with this one change for the whole fleet; the workers' own files count for nothing until “tollgate limits revert”.",
    ],
    verb: shadow ? "Put it on trial" : "Enforce it", danger: shadow, path: "policies/shadow",
    order: (filled) => ({ ...filled, policy: policy.name, shadow }), done,
  });
}

export function resetPrincipal(principal, policy, done) {
  ask({
    title: `Fill the buckets of ${principal}`,
    consequences: [policy ? `Its bucket of “${policy}” is full again.` : "All its buckets are full again: it may send a whole burst at once.", "Workers that refuse from memory notice within a second."],
    verb: "Fill them", path: "principal/reset",
    order: (filled) => ({ ...filled, principal, ...(policy ? { policy } : {}) }), done,
  });
}
