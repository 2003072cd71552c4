import { execFile } from 'node:child_process'
import { join } from 'node:path'

const program = join(import.meta.dirname, '../../bin/assay-cni')

export interface PluginAnswer { readonly code: number, readonly answer: Record<string, unknown>, readonly err: string }

/** The plugin as a container runtime calls it. @param input an object, or text as it stands */
export function callCniPlugin (environment: Readonly<Record<string, string>>, input?: object | string): Promise<PluginAnswer> {
  return new Promise(resolve => {
    const child = execFile(program, { env: { PATH: process.env['PATH'], ...environment } }, (error, stdout, err) => {
      const answer = (stdout === '' ? {} : JSON.parse(stdout)) as Record<string, unknown>
      resolve({ code: (error?.code as number | undefined) ?? 0, answer, err })
    })
    child.stdin?.end(typeof input === 'object' ? JSON.stringify(input) : input ?? '')
  })
}
