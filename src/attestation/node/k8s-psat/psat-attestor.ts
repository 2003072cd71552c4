import { readFile } from 'node:fs/promises'
import { SpiffeError } from '../../../spiffe/errors.ts'
import type { NodeAttestor } from '../node-attestor.ts'
import { encodePsatPayload } from './psat-payload.ts'

export interface PsatAttestorConfig {
  /** By which the server knows the cluster. */
  readonly cluster: string
  /** Of the service account token that is projected into the agent's pod. */
  readonly tokenPath: string
}

/**
 * SPIRE's `k8s_psat`, the agent's half: shows the token of the pod that the agent runs in. The kubelet replaces it before it expires, so it
 * is read anew for each attestation.
 */
export function createPsatAttestor ({ cluster, tokenPath }: PsatAttestorConfig): NodeAttestor {
  return {
    name: 'k8s_psat',
    async * attest () {
      yield encodePsatPayload({ cluster, token: await readToken(tokenPath) })
      throw new SpiffeError('attestation_malformed', 'the server challenged a service account token')
    }
  }
}

async function readToken (path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new SpiffeError('file_unusable', `cannot read the service account token ${path}: ${error.code}`, { cause: error })
  })
  const token = text.trim()
  if (token === '') throw new SpiffeError('file_unusable', `the service account token ${path} is empty`)
  return token
}
