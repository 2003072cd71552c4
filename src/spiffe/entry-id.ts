import { SpiffeError } from './errors.ts'

const characters = /^[A-Za-z0-9._-]+$/

/** Refuses what is not 1 to 255 of `A-Z a-z 0-9 - . _`. @throws {SpiffeError} `entry_malformed` */
export function checkEntryId (id: string): string {
  if (id.length > 255) throw new SpiffeError('entry_malformed', 'invalid registration entry: entry ID too long')
  if (!characters.test(id)) {
    throw new SpiffeError('entry_malformed', `invalid registration entry: entry ID contains invalid characters: ${JSON.stringify(id)}`)
  }
  return id
}

/** Whether an entry may have this id. */
export function isEntryId (id: string): boolean { return id.length <= 255 && characters.test(id) }
