// Ordering a run: the flow, the way to buy it, and a form for its input.
import { Problem, call, patiently, problemNote, waitingNote } from "./api.js";
import { badge, el, say } from "./dom.js";
import { Form, hasSecrets } from "./form.js";
import { freshIdentifier } from "./hash.js";
import { add, change, find, order, pause, referenceOf, remove } from "./runs.js";
import { readable } from "./text.js";
import { inSandbox, payByHand, priceOf } from "./wallet.js";

/** The page of one flow; `wanted` names a variant, else it is the usual one. */
export async function orderPage(slug, wanted, { signal, waiting }) {
  const load = (path) => patiently(() => call(path, { signal }), { signal, waiting });
  const name = encodeURIComponent(slug);
  const [flow, schema] = await Promise.all([load(`flows/${name}`), load(`${name}/input_schema`)]);
  const named = (it) => flow.variants.find((variant) => variant.name === it);
  return new Order(flow, schema, named(wanted) || named(flow.default_variant), signal).element;
}

class Order {
  constructor(flow, schema, variant, signal) {
    Object.assign(this, { flow, schema, variant, signal });
    this.notes = el("div");
    this.form = new Form(schema, { label: "", send: (input) => this.buy(input) });
    this.state = el("p", { class: "state" });
    const example = el("button", { type: "button", onclick: () => this.fill() }, "Fill in the example");
    this.element = el("article", { class: "page" },
      el("div", { class: "head" },
        el("p", { class: "crumb" }, el("a", { href: "#/" }, "Flows"), " /"),
        el("h1", {}, flow.name),
        el("p", { class: "lead" }, flow.description)),
      el("div", { class: "columns" },
        el("section", { class: "panel side", "aria-labelledby": "offer" },
          el("h2", { id: "offer" }, "How to buy"), this.variants(), this.state,
          el("div", { class: "after" }, el("h3", {}, "What then happens"), steps())),
        el("section", { class: "panel", "aria-labelledby": "input" },
          el("div", { class: "spread" }, el("h2", { id: "input" }, "Your input"), example),
          this.form.element, this.notes)));
    this.choose(variant);
  }

  variants() {
    const button = (variant) => {
      const choose = { type: "radio", name: "variant", onchange: () => this.choose(variant) };
      const input = el("input", choose);
      input.checked = variant === this.variant;
      const price = el("b", {}, priceOf(variant));
      return el("label", { class: "offer" }, input, el("span", {}, variant.name), price);
    };
    return el("fieldset", { class: "offers" },
      el("legend", { class: "unseen" }, "Variant"), ...this.flow.variants.map(button));
  }

  async choose(variant) {
    this.variant = variant;
    this.form.button.textContent = variant.free ? "Run it for free" : "Order it";
    this.state.replaceChildren();
    const asked = this.run(null);
    try {
      const found = await call(`${referenceOf(asked)}/availability`, { signal: this.signal });
      if (this.variant !== variant) return;
      const is = found.status === "available";
      const shown = is ? badge("good", "Available") : badge("warn", "Not available now");
      this.state.replaceChildren(shown, " ", found.message || "");
    } catch {
      // Not known: ordering will tell.
    }
  }

  async fill() {
    try {
      const demo = await patiently(() => call(`${this.flow.id}/demo`, { signal: this.signal }), {
        signal: this.signal,
        waiting: (problem, until) => this.notes.replaceChildren(waitingNote(problem, until)),
      });
      this.form.fill(demo.input);
      this.example?.remove();
      this.example = el("details", { class: "panel" },
        el("summary", {}, "What comes of the example"), readable(demo.output.result));
      this.element.append(this.example);
    } catch (error) {
      if (error.name !== "AbortError") this.notes.replaceChildren(problemNote(error));
    }
  }

  run(input) {
    const { flow, variant } = this;
    return {
      key: freshIdentifier() + freshIdentifier(),
      flow: flow.id,
      name: flow.name,
      variant: variant.name,
      usual: flow.default_variant,
      free: variant.free,
      price: priceOf(variant),
      identifier: variant.free ? null : freshIdentifier(),
      input,
      ordered: Date.now(),
    };
  }

  async buy(input) {
    // The same input again is the same order until it is known what became of it.
    if (JSON.stringify([input, this.variant.name]) !== this.last) this.pending = this.run(input);
    this.last = JSON.stringify([input, this.variant.name]);
    const run = this.pending;
    this.form.busy(true);
    const secret = hasSecrets(this.schema);
    // Leaving the page does not stop an order; only who orders does.
    const giveUp = new AbortController();
    const stop = () => giveUp.abort();
    try {
      if (!run.free) run.byHand = await payByHand(run.identifier);
      // Kept before it is sent: whatever happens to this window, it is not ordered twice.
      if (!secret) add(run);
      const started = await order(run, {
        signal: giveUp.signal,
        waiting: (problem, until) => this.notes.replaceChildren(waitingNote(problem, until, stop)),
      });
      if (secret) add({ ...run, input: null, secretInput: true });
      change(run.key, { started });
      say("Ordered.");
      if (!this.signal.aborted) location.hash = `#/run/${run.key}`;
    } catch (error) {
      remove(run.key);
      if (error.name === "AbortError") this.notes.replaceChildren();
      else this.failed(error);
    } finally {
      this.form.busy(false);
    }
  }

  failed(error) {
    if (error instanceof Problem && error.status < 500) this.last = null;
    const shown = error.errors?.length > 0 && this.form.show(error.errors);
    this.notes.replaceChildren(shown ? "" : problemNote(error));
  }
}

function steps() {
  return el("ol", { class: "steps" },
    el("li", {}, "You order; the service answers with the terms."),
    el("li", {}, inSandbox ? "You pay in the sandbox: no real money." : "You pay with your wallet."),
    el("li", {}, "It runs, and may ask you something."),
    el("li", {}, "You read the result, and your browser checks its hash."));
}

/** Orders of which it is not known what became: asked for again, under their own keys. */
export function resume(run) {
  const signal = new AbortController().signal;
  const waiting = (problem, until) => pause(run.key, problem, until);
  return order(run, { signal, waiting })
    .then((started) => change(run.key, { started }))
    .catch((error) => { if (find(run.key)) change(run.key, { refused: error.message }); });
}
