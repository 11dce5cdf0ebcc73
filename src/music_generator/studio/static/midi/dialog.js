// The dialog of MIDI devices: on or off, which keyboard plays in, what sounds, and the rest after which the model answers.
import { $, onClick } from "../panels.js";
import { messageOf } from "../server.js";
import * as store from "../store.js";
import { ALL, Devices } from "./devices.js";
import { Port } from "./port.js";

const HERE = ""; // the output that is the page's piano
const REST = { least: 0.3, most: 5, usual: 1 }; // seconds

export class MidiDialog {
  /** @type {{on: boolean, input: string, output: string, rest: number}} */
  settings = { on: false, input: ALL, output: HERE, rest: REST.usual, ...store.setting("midi") };

  /** @param {MidiPage} page */
  constructor(page) {
    this.page = page;
    this.devices = new Devices({ played: page.played, changed: (news) => this.#devicesChanged(news) });
    $("rest").value = String(this.settings.rest);
    onClick("midi", (event) => this.#open(event));
    $("midi-on").addEventListener("change", () => ($("midi-on").checked ? this.#turnOn() : this.#turnOff()));
    $("midi-input").addEventListener("change", () => this.#chooseInput());
    $("midi-output").addEventListener("change", () => this.#chooseOutput());
    $("rest").addEventListener("change", () => this.#setRest());
    this.#show();
    this.#turnOnAgain();
  }

  get restSeconds() { return this.settings.rest; }

  /** @param {MouseEvent} event */
  #open({ detail: byMouse }) {
    this.#show();
    $("midi-box").showModal();
    if (byMouse) $("midi-box").addEventListener("close", () => $("roll").focus(), { once: true }); // for the shortcuts
  }

  /** @param {Partial<MidiDialog["settings"]>} settings */
  #store(settings) { store.setSetting("midi", Object.assign(this.settings, settings)); }

  /** Devices that were on are so after a reload, unless the browser would ask again. */
  async #turnOnAgain() {
    const permission = this.settings.on && (await navigator.permissions?.query({ name: /** @type {PermissionName} */ ("midi") }).catch(() => null));
    if (permission && permission.state === "granted") await this.#turnOn();
  }

  async #turnOn() {
    try { await this.devices.turnOn(); } catch (error) {
      $("midi-on").checked = false;
      this.#say(messageOf(error));
      return;
    }
    this.#store({ on: true });
    this.devices.choose(this.settings.input);
    this.#connectOutput();
    this.#show();
    this.#say(this.#summary);
  }

  #turnOff() {
    this.devices.turnOff();
    this.#store({ on: false });
    this.#connectOutput();
    this.#show();
    this.#say("MIDI devices are off");
  }

  get #summary() {
    const names = this.devices.inputs.map((each) => each.name);
    return names.length ? `Connected: ${names.join(", ")}` : "No MIDI keyboard is connected; one that you connect is heard at once";
  }

  /** @param {string} text */
  #say(text) {
    $("midi-text").textContent = text;
    if (!$("midi-box").open) this.page.announce(text);
  }

  /** @param {string} news */
  #devicesChanged(news) {
    this.#connectOutput();
    this.#show();
    this.#say(news);
  }

  #chooseInput() {
    this.#store({ input: $("midi-input").value });
    this.devices.choose(this.settings.input);
  }

  #chooseOutput() {
    this.#store({ output: $("midi-output").value });
    this.#connectOutput();
  }

  /** Let the chosen output play, or the page's piano if it is not there. */
  #connectOutput() {
    const { player, clocks, stop } = this.page, output = this.devices.outputs.find((each) => each.id === this.settings.output) ?? null;
    if (output === (player.port?.output ?? null)) return;
    stop();
    player.port?.close();
    player.port = output && new Port(output, clocks);
  }

  #setRest() {
    const rest = Number($("rest").value), isRest = rest >= REST.least && rest <= REST.most;
    if (isRest) this.#store({ rest });
    else $("rest").value = String(this.settings.rest);
    this.#say(isRest ? "" : `A rest is ${REST.least} to ${REST.most} seconds`);
  }

  #show() {
    const { devices, settings } = this;
    /** @type {(port: MIDIPort) => [string, string | null]} */
    const optionOf = ({ id, name }) => [id, name];
    $("midi").setAttribute("aria-pressed", String(devices.isOn));
    $("midi-on").checked = devices.isOn;
    fill($("midi-input"), [[ALL, "all keyboards"], ...devices.inputs.map(optionOf)], settings.input);
    fill($("midi-output"), [[HERE, "this page's piano"], ...devices.outputs.map(optionOf)], settings.output);
    for (const id of ["midi-input", "midi-output"]) $(id).disabled = !devices.isOn;
  }
}

/** @param {HTMLSelectElement} select @param {[id: string, name: string | null][]} options @param {string} value */
function fill(select, options, value) {
  select.replaceChildren(...options.map(([id, name]) => new Option(name ?? "", id)));
  select.value = options.some(([id]) => id === value) ? value : options[0][0];
}
