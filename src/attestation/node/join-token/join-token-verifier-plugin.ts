import { z } from 'zod'
import type { Plugin } from '../../../plugins/plugin.ts'
import type { NodeVerifier } from '../node-verifier.ts'
import { createJoinTokenVerifier } from './join-token-verifier.ts'

type Host = { readonly checkJoinToken: (token: string) => Promise<void> }

/** May be named, as in SPIRE's configurations; the server has it in any case. */
export const joinTokenVerifierPlugin: Plugin<NodeVerifier & AsyncDisposable, object, Host> = {
  name: 'join_token',
  config: z.strictObject({}),
  start: async (_config, { checkJoinToken }) => ({ ...createJoinTokenVerifier(checkJoinToken), [Symbol.asyncDispose]: async () => {} })
}
