/** Holds this thread without using it, as a machine that is busy with others does. */
export function standStill (ms: number): void { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms) }
