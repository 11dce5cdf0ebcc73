// The keys of the roll's keyboard: they sound while the pointer is down on them, and as it glides over them.
import { HIGHEST, LOWEST } from "../piece.js";

const SOFTEST = 30, LOUDEST = 115; // velocities at the back and at the front edge of a key

export class Keys {
  #playing = new Map(); // pointer id → key

  /** `box` holds the canvas; it hears of a pointer before the canvas does. */
  constructor(box, view, player) {
    Object.assign(this, { box, view, player });
    const listen = (name, action) => box.addEventListener(name, (event) => action.call(this, event), { capture: true });
    listen("pointerdown", this.#down);
    listen("pointermove", this.#move);
    for (const name of ["pointerup", "pointercancel"]) listen(name, this.#up);
  }

  /** The key at a pointer and the velocity of its place, or null outside of the keyboard. */
  #at(event) {
    const { left, top, width } = this.box.getBoundingClientRect(), { view } = this, x = event.clientX - left, y = event.clientY - top;
    if (x < 0 || x >= Math.min(view.left, width) || y < view.top || y >= view.bottom) return null;
    return { key: Math.min(Math.max(view.key(y), LOWEST), HIGHEST), velocity: Math.round(SOFTEST + ((LOUDEST - SOFTEST) * x) / view.left) };
  }

  #down(event) {
    const at = this.#at(event);
    if (!at || event.button > 0) return;
    event.stopPropagation();
    event.target.setPointerCapture?.(event.pointerId);
    this.#glide(event, at);
  }

  #move(event) {
    if (!this.#playing.has(event.pointerId)) return;
    event.stopPropagation();
    this.#glide(event, this.#at(event));
  }

  #glide({ pointerId }, at) {
    const before = this.#playing.get(pointerId);
    if (before === (at?.key ?? null)) return;
    if (before) this.player.release(before);
    this.#playing.set(pointerId, at?.key ?? null);
    if (at) this.player.strike(at.key, at.velocity);
  }

  #up(event) {
    if (!this.#playing.has(event.pointerId)) return;
    event.stopPropagation();
    this.#glide(event, null);
    this.#playing.delete(event.pointerId);
  }
}
