import { expandEnvironment, type ConfigOverride, type ConfigSource } from '../runtime/config-file.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { readInputFile } from './read-input.ts'
import type { Terminal } from './terminal.ts'

interface ConfigFlagValues {
  readonly config: string | undefined
  readonly expandEnv: boolean
}

/**
 * What `run` and `validate` read: the file of `-config`, else the default file if there is one; flags win over it.
 * @param keys flag names with the keys they override
 * @throws {SpiffeError} `file_unusable`
 */
export async function readConfigSource<Values extends ConfigFlagValues> (
  values: Values, terminal: Terminal, defaultFile: string, keys: Readonly<Partial<Record<keyof Values, readonly string[]>>>
): Promise<ConfigSource> {
  const name = values.config ?? defaultFile
  const text = await readInputFile(name).then(bytes => new TextDecoder().decode(bytes), (error: unknown) => {
    if (values.config === undefined && error instanceof SpiffeError && isMissing(error.cause)) return undefined
    throw error
  })
  const expanded = text !== undefined && values.expandEnv ? expandEnvironment(text, terminal.environment) : text
  const overrides = Object.entries(keys as Record<string, readonly string[]>).flatMap(([flag, path]): ConfigOverride[] => {
    const value = values[flag as keyof Values]
    return value === undefined ? [] : [{ path, value, from: `-${flag}` }]
  })
  return { file: expanded === undefined ? undefined : { name, text: expanded }, overrides }
}

function isMissing (cause: unknown): boolean {
  return (cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT'
}
