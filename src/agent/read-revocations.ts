import type { RevocationKind } from '../spiffe/revocation.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import { parseSpiffeId } from '../spiffe/spiffe-id.ts'
import type { Revocations } from '../wire/generated/agent-sync.ts'
import type { KnownRevocation, RevocationChange } from './revocations.ts'

const kinds: ReadonlySet<string> = new Set<RevocationKind>(['svid', 'spiffe_id', 'node'])
const digestBytes = 32

/** Puts what came of revocations in the messages of one step together. */
export class PushedRevocations {
  #whole = false
  #named = false
  readonly #revocations = new Map<string, KnownRevocation>()
  readonly #removed = new Set<string>()

  /**
   * @throws {SpiffeError} `message_malformed`: what cannot be understood might have to be denied, so it must not be passed over in silence
   */
  add ({ whole, revocations, removedIds }: Revocations): void {
    this.#named = true
    this.#whole ||= whole
    for (const id of removedIds) this.#removed.add(id)
    for (const part of revocations) {
      const read = readRevocation(part)
      const before = this.#revocations.get(read.id)?.certificateDigests ?? []
      this.#revocations.set(read.id, { ...read, certificateDigests: [...before, ...read.certificateDigests] })
    }
  }

  /** @returns `undefined` when nothing changed */
  end (snapshot: boolean): RevocationChange | undefined {
    if (!this.#named && !snapshot) return undefined
    return { whole: this.#whole || snapshot, revocations: this.#revocations, removedIds: this.#removed }
  }
}

function readRevocation ({ id, kind, subject, certificateDigests, expiresAt }: Revocations['revocations'][number]): KnownRevocation {
  if (id === '' || !kinds.has(kind)) throw malformed(`it is of kind ${JSON.stringify(kind)}`)
  if (certificateDigests.some(digest => digest.length !== digestBytes)) throw malformed('a digest is not as long as SHA-256')
  const until = new Date(Number(expiresAt))
  if (Number.isNaN(until.getTime())) throw malformed('it does not say until when it stands')
  return {
    id,
    kind: kind as RevocationKind,
    subject: readSubject(subject),
    certificateDigests: certificateDigests.map(digest => Buffer.from(digest).toString('hex')),
    expiresAt: until
  }
}

function readSubject (text: string) {
  try {
    return parseSpiffeId(text)
  } catch (error) {
    if (codeOf(error) === undefined) throw error
    throw malformed(`${JSON.stringify(text)} is no SPIFFE ID`, error)
  }
}

function malformed (why: string, cause?: unknown): SpiffeError {
  return new SpiffeError('message_malformed', `the server pushed a revocation that cannot be understood: ${why}`, { cause })
}
