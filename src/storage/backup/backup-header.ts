import { z } from 'zod'
import { instant } from '../../runtime/config-schema.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { newestSchema } from '../migrations/migrate.ts'

/** What the first line of a backup says. */
export interface BackupHeader {
  /** Of the database's schema: the number of its last migration. */
  readonly schema: number
  /** Empty where the database did not know yet. */
  readonly trustDomain: string
  /** Where the log of changes stood. */
  readonly epoch: string
  readonly number: number
  readonly takenAt: Date
  /** Of the program that wrote it. */
  readonly version: string
  readonly database: 'sqlite' | 'postgres'
  /** Rows by table. */
  readonly counts: Readonly<Record<string, number>>
}

/** Of the form of the file; what a later one means nobody here can know. */
const format = 1
const wholeNumber = z.int().min(0)

const headerSchema = z.strictObject({
  assay_backup: z.literal(format),
  schema: z.int().min(1),
  trust_domain: z.string(),
  epoch: z.string().min(1),
  number: wholeNumber,
  taken_at: instant,
  version: z.string(),
  database: z.enum(['sqlite', 'postgres']),
  counts: z.record(z.string(), wholeNumber)
})

export function formatHeader ({ trustDomain, takenAt, ...rest }: BackupHeader): string {
  return `${JSON.stringify({ assay_backup: format, ...rest, trust_domain: trustDomain, taken_at: takenAt })}\n`
}

/** @param line without its end @throws {SpiffeError} `backup_malformed`, `backup_newer` */
export function parseHeader (line: string): BackupHeader {
  const raw = parseLine(line)
  const claimed = z.object({ assay_backup: z.int(), schema: z.unknown(), version: z.unknown() }).safeParse(raw).data
  if (claimed === undefined) throw new SpiffeError('backup_malformed', 'this is no backup of an Assay database')
  const by = typeof claimed.version === 'string' ? ` of version ${claimed.version.slice(0, 40)}` : ''
  if (claimed.assay_backup > format) {
    throw new SpiffeError('backup_newer', `the backup${by} has form ${claimed.assay_backup}, this version reads form ${format}`)
  }
  if (typeof claimed.schema === 'number' && claimed.schema > newestSchema) {
    throw new SpiffeError('backup_newer', `the backup${by} has schema ${claimed.schema}, this version knows schemas up to ${newestSchema}`)
  }
  const { data } = headerSchema.safeParse(raw)
  if (data === undefined) throw new SpiffeError('backup_malformed', 'the first line of the backup is damaged')
  const { assay_backup: _, trust_domain: trustDomain, taken_at: takenAt, ...rest } = data
  return { ...rest, trustDomain, takenAt }
}

/** @throws {SpiffeError} `backup_malformed` */
export function parseLine (line: string): unknown {
  try {
    return JSON.parse(line) as unknown
  } catch (error) {
    throw new SpiffeError('backup_malformed', 'a line of the backup is no JSON', { cause: error })
  }
}
