import { randomBytes } from 'node:crypto'
import { SpiffeError } from '../../../spiffe/errors.ts'
import type { NodeAttestor } from '../node-attestor.ts'
import { bothNonces } from './both-nonces.ts'
import { readHostCredentials } from './ssh-files.ts'
import { encodeAnswer, encodePayload, nonceBytes, parseChallenge } from './ssh-payload.ts'
import { signSsh } from './ssh-signature.ts'

export interface SshAttestorConfig { readonly keyPath: string, readonly certificatePath: string }

/** SPIRE's `sshpop`, the agent's half. Files are read at each attestation: whoever renews them need not tell the agent. */
export function createSshAttestor ({ keyPath, certificatePath }: SshAttestorConfig): NodeAttestor {
  return {
    name: 'sshpop',
    async * attest () {
      const { certificate, key } = await readHostCredentials(keyPath, certificatePath)
      const theirs = parseChallenge(yield encodePayload(certificate.raw))
      const nonce = randomBytes(nonceBytes)
      yield encodeAnswer({ nonce, signature: signSsh(bothNonces(theirs, nonce), key.type, key.key) })
      throw new SpiffeError('attestation_malformed', 'the server challenged a certificate twice')
    }
  }
}
