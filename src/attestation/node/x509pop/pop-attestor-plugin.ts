import { z } from 'zod'
import type { Plugin } from '../../../plugins/plugin.ts'
import type { NodeAttestor } from '../node-attestor.ts'
import { createPopAttestor, type PopAttestorConfig, readCredentials } from './pop-attestor.ts'

const path = z.string().min(1, 'must not be empty')

export const popAttestorPlugin: Plugin<NodeAttestor & AsyncDisposable, PopAttestorConfig, unknown> = {
  name: 'x509pop',
  config: z.strictObject({
    private_key_path: path,
    certificate_path: path,
    intermediates_path: z.string().optional()
  }).transform(({ private_key_path: keyPath, certificate_path: certificatePath, intermediates_path: intermediates }) =>
    ({ keyPath, certificatePath, intermediatesPath: intermediates?.trim() === '' ? undefined : intermediates })),
  async start (config) {
    // As in SPIRE: what is not there keeps the agent from starting.
    await readCredentials(config)
    return { ...createPopAttestor(config), [Symbol.asyncDispose]: async () => {} }
  }
}
