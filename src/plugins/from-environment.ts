import { SpiffeError } from '../spiffe/errors.ts'

/** What a plugin's configuration says, or else a variable of the environment, in which empty counts as absent. */
export function orEnvironment (value: string | undefined, variable: string): string | undefined {
  return value ?? (process.env[variable] || undefined)
}

/** The same for what a plugin cannot do without. @throws {SpiffeError} `config_invalid`, naming both places */
export function requiredOrEnvironment (value: string | undefined, key: string, variable: string): string {
  const found = orEnvironment(value, variable)
  if (found === undefined) throw new SpiffeError('config_invalid', `${key} is missing, and ${variable} is not set`)
  return found
}
