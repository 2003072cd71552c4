import type { EpochStore } from '../../src/mesh/resources/connection-epochs.ts'

/** Of a proxy that does not outlive its agent. */
export const noEpochs: EpochStore = { read: () => new Map(), write () {} }
