import { z } from 'zod'
import type { Plugin } from '../../../plugins/plugin.ts'
import type { NodeAttestor } from '../node-attestor.ts'
import { createJoinTokenAttestor } from './join-token-attestor.ts'

type Host = { readonly readJoinToken: () => Promise<string> }

/** The token is the agent's own setting, `join_token`, as in SPIRE. */
export const joinTokenPlugin: Plugin<NodeAttestor & AsyncDisposable, object, Host> = {
  name: 'join_token',
  config: z.strictObject({}),
  start: async (_config, { readJoinToken }) => ({ ...createJoinTokenAttestor(readJoinToken), [Symbol.asyncDispose]: async () => {} })
}
