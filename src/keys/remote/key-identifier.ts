import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { writeFileAtomically } from '../../runtime/atomic-file.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

const pattern = /^[A-Za-z0-9._-]{1,100}$/
const rule = 'must be 1 to 100 of A-Z a-z 0-9 . _ -'

/** SPIRE's names. Where neither is set, the trust domain's name is used. */
export const keyIdentifierKeys = {
  key_identifier_file: z.string().min(1, 'must not be empty').optional(),
  key_identifier_value: z.string().regex(pattern, rule).optional()
}

export interface KeyIdentifierConfig {
  readonly key_identifier_file?: string | undefined
  readonly key_identifier_value?: string | undefined
}

export function checkIdentifierConfig (config: KeyIdentifierConfig): boolean {
  return config.key_identifier_file === undefined || config.key_identifier_value === undefined
}

/**
 * What the names of keys made elsewhere begin with. It is for people: which key is used, the database says. A file that is missing is
 * made, with a random identifier.
 * @throws {SpiffeError} `file_unusable`, `config_invalid`
 */
export async function keyIdentifier (config: KeyIdentifierConfig, trustDomain: string): Promise<string> {
  const { key_identifier_file: file, key_identifier_value: value } = config
  if (value !== undefined) return value
  if (file === undefined) return trustDomain.slice(0, 100)
  try {
    const text = (await readFile(file, 'utf8')).trim()
    if (!pattern.test(text)) throw new SpiffeError('config_invalid', `what ${file} holds ${rule}`)
    return text
  } catch (error) {
    if (error instanceof SpiffeError) throw error
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw unusable('read', file, error)
  }
  const made = randomUUID()
  try {
    await writeFileAtomically(file, `${made}\n`, { mode: 0o600 })
  } catch (error) {
    throw unusable('write', file, error)
  }
  return made
}

function unusable (verb: string, file: string, error: unknown): SpiffeError {
  return new SpiffeError('file_unusable', `cannot ${verb} the key identifier ${file}: ${(error as Error).message}`, { cause: error })
}
