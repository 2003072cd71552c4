import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { SpiffeError } from '../../../spiffe/errors.ts'
import type { NodeAttestor } from '../node-attestor.ts'
import { readCertificateFiles } from './certificate-file.ts'
import { encodeAnswer, encodePayload, parseChallenge } from './pop-payload.ts'
import { answerChallenge } from './proof-of-possession.ts'

export type PopAttestorConfig = PopFiles | { readonly socketPath: string }

export interface PopFiles {
  readonly keyPath: string
  /** The leaf first; intermediates may follow. */
  readonly certificatePath: string
  readonly intermediatesPath: string | undefined
}

export interface WorkloadSvid {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  /** PKCS#8, DER. Secret. */
  readonly privateKey: Uint8Array
}

/** @param socketPath of a Workload API */
export type FetchWorkloadSvid = (socketPath: string, signal: AbortSignal) => Promise<WorkloadSvid>

interface Credentials {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  readonly key: KeyObject
}

/**
 * SPIRE's `x509pop`, the agent's half. Files are read, and a Workload API is asked, at each attestation: whoever renews what they give need
 * not tell the agent.
 */
export function createPopAttestor (config: PopAttestorConfig, fetchWorkloadSvid: FetchWorkloadSvid): NodeAttestor {
  return {
    name: 'x509pop',
    async * attest (signal) {
      const { chain, key } = 'socketPath' in config ? svidOf(await fetchWorkloadSvid(config.socketPath, signal))
        : await readCredentials(config)
      const challenge = yield encodePayload(chain)
      yield encodeAnswer(answerChallenge(parseChallenge(challenge), key))
      throw new SpiffeError('attestation_malformed', 'the server challenged a certificate twice')
    }
  }
}

/** @throws {SpiffeError} `file_unusable`; content is never quoted */
export async function readCredentials ({ keyPath, certificatePath, intermediatesPath }: PopFiles): Promise<Credentials> {
  const chain = await readCertificateFiles([certificatePath])
  const intermediates = intermediatesPath === undefined ? [] : await readCertificateFiles([intermediatesPath])
  const unusable = (why: string, cause?: unknown) => new SpiffeError('file_unusable', `x509pop: ${keyPath} ${why}`, { cause })
  let key
  try {
    key = createPrivateKey(await readFile(keyPath, 'utf8'))
  } catch (error) {
    throw unusable(`cannot be used: ${(error as NodeJS.ErrnoException).code ?? 'it is no private key in PEM'}`, error)
  }
  if (!isKeyOf(chain[0] as Uint8Array, key)) throw unusable(`is not the key of the first certificate in ${certificatePath}`)
  return { chain: [...chain, ...intermediates], key }
}

function svidOf ({ chain, privateKey }: WorkloadSvid): Credentials {
  return { chain, key: createPrivateKey({ key: Buffer.from(privateKey), format: 'der', type: 'pkcs8' }) }
}

function isKeyOf (certificate: Uint8Array, key: KeyObject): boolean {
  try {
    return new X509Certificate(certificate).checkPrivateKey(key)
  } catch {
    return false
  }
}
