import { z } from 'zod'
import { writeFileAtomically } from '../runtime/atomic-file.ts'
import { readIfThere } from '../runtime/read-if-there.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseTrustDomain, type TrustDomain } from '../spiffe/trust-domain.ts'
import { instant, parsedBy } from '../runtime/config-schema.ts'
import { seenAgentSchema } from './seen-agents.ts'

/**
 * `publishing`: each side's bundle has the other's authorities, and not everybody has had time to take them over; `open`: agents may move;
 * `finished`: our server is the one whose entries count; `rolled_back`: SPIRE's is, and nothing of the takeover is left here.
 */
export type Phase = 'publishing' | 'open' | 'finished' | 'rolled_back'

const names = z.strictObject({ x509: z.array(z.string()), jwt: z.array(z.string()) })

const schema = z.strictObject({
  version: z.literal(1),
  trustDomain: parsedBy(parseTrustDomain),
  phase: z.enum(['publishing', 'open', 'finished', 'rolled_back']),
  startedAt: instant,
  /** When SPIRE's bundle last got an authority of ours that signs, and ours one of SPIRE's: who follows them needs a while. */
  publishedAt: instant,
  /** How long that while is. */
  settleMs: z.int().min(0),
  /** The last time that both sides were made equal. */
  lastRoundAt: instant,
  /** Authorities of ours that SPIRE's bundle got, and of SPIRE that ours got. */
  published: z.strictObject({ there: names, here: names }),
  /** What the takeover made, or was about to make, at our server. */
  entries: z.array(z.string()),
  relationships: z.array(z.string()),
  bundles: z.array(z.string()),
  /** To what our bundle's sequence number was last raised; absent: it never was. It stays raised, whatever is rolled back. */
  sequenceRaisedTo: z.string().regex(/^\d+$/).optional(),
  /** As SPIRE's server told of them in the last round: all there is to go by once it is gone. Absent: an earlier build wrote it. */
  agents: z.array(seenAgentSchema).optional(),
  /** When the takeover was finished without SPIRE's server, since that was gone. */
  spireGoneAt: instant.optional()
})

/** What a takeover has done, kept on disk before it is done: whatever kills it, the next command knows what to go on with or to undo. */
export type Journal = z.output<typeof schema>

/** @returns `undefined` where there is none yet @throws {SpiffeError} `file_unusable` */
export async function readJournal (path: string): Promise<Journal | undefined> {
  const text = await readIfThere(path).catch((cause: unknown) => {
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${(cause as Error).message}`, { cause })
  })
  if (text === undefined) return undefined
  let raw: unknown
  try {
    raw = JSON.parse(text)
  } catch (cause) {
    throw new SpiffeError('file_unusable', `${path} is no state of a takeover: ${(cause as Error).message}`, { cause })
  }
  const { success, data, error } = schema.safeParse(raw)
  if (success) return data
  const [issue] = error.issues
  throw new SpiffeError('file_unusable', `${path} is no state of a takeover: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`)
}

/** On return it is on the disk. @throws {SpiffeError} `file_unusable` */
export async function writeJournal (path: string, journal: Journal): Promise<void> {
  try {
    await writeFileAtomically(path, `${JSON.stringify(journal, undefined, 1)}\n`, { mode: 0o600 })
  } catch (cause) {
    throw new SpiffeError('file_unusable', `cannot write ${path}: ${(cause as Error).message}`, { cause })
  }
}

export function newJournal (trustDomain: TrustDomain, settleMs: number, now: Date): Journal {
  const none = { x509: [], jwt: [] }
  return {
    version: 1, trustDomain, phase: 'publishing', startedAt: now, publishedAt: now, lastRoundAt: now, settleMs,
    published: { there: none, here: none }, entries: [], relationships: [], bundles: []
  }
}

/** When whoever follows the bundles has had time to see what was last published. */
export function settledAt ({ publishedAt, settleMs }: Journal): Date { return new Date(publishedAt.getTime() + settleMs) }
