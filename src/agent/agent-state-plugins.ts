import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { Plugin } from '../plugins/plugin.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { AgentStateFile, type AgentStateStore } from './agent-state.ts'

type Store = AgentStateStore & AsyncDisposable
type Host = { readonly dataDir: string, readonly trustDomain: TrustDomain }

const diskSchema = z.strictObject({ directory: z.string().min(1, 'must not be empty').optional() })

/** `agent-data.json` in `directory`, which is the agent's data folder unless given. */
export const diskStatePlugin: Plugin<Store, z.output<typeof diskSchema>, Host> = {
  name: 'disk',
  config: diskSchema,
  async start ({ directory }, { dataDir, trustDomain }) {
    const folder = directory ?? dataDir
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 })
    } catch (error) {
      throw new SpiffeError('file_unusable', `cannot make the folder ${folder}`, { cause: error })
    }
    return new AgentStateFile(join(folder, 'agent-data.json'), trustDomain)
  }
}

/** Keeps nothing: the agent attests anew at each start. */
export const memoryStatePlugin: Plugin<Store, object, unknown> = {
  name: 'memory',
  config: z.strictObject({}),
  start: async () => ({
    folder: undefined,
    read: async () => undefined,
    write: async () => {},
    remove: async () => {},
    [Symbol.asyncDispose]: async () => {}
  })
}
