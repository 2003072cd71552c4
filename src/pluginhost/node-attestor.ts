import type { NodeAttestor } from '../attestation/node/node-attestor.ts'
import type { ExternalProgram } from '../plugins/external-program.ts'
import { Mailbox } from '../runtime/mailbox.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { agentNodeAttestorPluginService, type ChallengeInit } from '../wire/generated/plugin-agent-node-attestor.ts'
import { ExternalPlugin } from './external-plugin.ts'
import type { PluginHost } from './plugin-host.ts'

/** Of a whole attestation. */
const timeoutMs = 60_000

/** The agent's half of SPIRE's plugin type `NodeAttestor`. Its name is the attestation type. */
export async function startExternalNodeAttestor (
  name: string, program: ExternalProgram, host: PluginHost, signal: AbortSignal
): Promise<NodeAttestor & AsyncDisposable> {
  const service = agentNodeAttestorPluginService
  const plugin = await ExternalPlugin.start({ type: 'NodeAttestor', name, program, service: service.name }, host, signal)
  return {
    name,
    async * attest (signal) {
      const challenges = new Mailbox<ChallengeInit>()
      try {
        let isFirst = true
        const answers = plugin.channel.client(service).aidAttestation(challenges, { signal, timeoutMs })
        for await (const { payload, challengeResponse } of answers) {
          const answer = isFirst ? payload : challengeResponse
          if (answer === undefined) throw new SpiffeError('plugin_failed', `the plugin ${name} gave no ${isFirst ? 'payload' : 'answer'}`)
          isFirst = false
          challenges.put({ challenge: yield answer })
        }
      } catch (error) {
        throw plugin.refusal(error)
      } finally {
        challenges.close()
      }
    },
    [Symbol.asyncDispose]: () => plugin[Symbol.asyncDispose]()
  }
}
