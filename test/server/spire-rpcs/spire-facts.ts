import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Setting, settingNames } from './settings.ts'
import type { Told } from './step.ts'

/** What the real server said to the steps of each setting, kept so that parity is proved where it is not. */
export interface SpireFacts { readonly version: string, readonly told: Readonly<Record<Setting, readonly Told[]>> }

const file = join(import.meta.dirname, 'spire-1.15.3.json')

export async function readFacts (): Promise<SpireFacts> { return JSON.parse(await readFile(file, 'utf8')) as SpireFacts }

/** One step a line. */
export async function writeFacts ({ version, told }: SpireFacts): Promise<void> {
  const lists = settingNames.map(name => `${JSON.stringify(name)}:[\n${told[name].map(step => JSON.stringify(step)).join(',\n')}\n]`)
  await writeFile(file, `{"version":${JSON.stringify(version)},"told":{${lists.join(',')}}}\n`)
}
