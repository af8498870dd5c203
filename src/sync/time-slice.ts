import { setImmediate as nextTurn } from 'node:timers/promises';

/** Maximum time to block the event loop, in milliseconds. */
const SLICE_MS = 4;

/** Cuts long work into slices: `if (slice.isOver) await slice.pause()` after each step lets the event loop turn. */
export class TimeSlice {
  #end = performance.now() + SLICE_MS;

  get isOver(): boolean {
    return performance.now() > this.#end;
  }

  /** Lets the event loop turn once, and begins the next slice. */
  async pause(): Promise<void> {
    await nextTurn();
    this.#end = performance.now() + SLICE_MS;
  }
}
