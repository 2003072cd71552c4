// Runs policies in a thread of its own: whoever started it ends it when one takes too long.
import { parentPort, workerData } from 'node:worker_threads'
import type { ThreadAnswer, ThreadGreeting, ThreadSetup, ThreadTask } from './thread-messages.ts'
import { UnusableModule, WasmPolicy } from './wasm-policy.ts'

const { modules, maxPages, progress } = workerData as ThreadSetup
const counts = new Int32Array(progress)
const policies: Array<WasmPolicy | undefined> = []

say(greet())
parentPort?.on('message', (tasks: readonly ThreadTask[]) => say(tasks.map(answer)))

function say (message: ThreadGreeting | readonly ThreadAnswer[]): void { parentPort?.postMessage(message, []) }

function greet (): ThreadGreeting {
  const entrypoints: Array<ReadonlyMap<string, number>> = []
  for (const [index, { name, module, data }] of modules.entries()) {
    try {
      const policy = new WasmPolicy(module, data, maxPages)
      policies[index] = policy
      entrypoints.push(policy.entrypoints)
    } catch (error) {
      return { refused: `${name}: ${error instanceof UnusableModule ? error.message : `it does not start: ${String(error)}`}` }
    }
  }
  return { entrypoints }
}

function answer ({ module: index, entrypoint, input, timeNs }: ThreadTask): ThreadAnswer {
  Atomics.add(counts, 0, 1)
  try {
    const { module, data } = modules[index] as ThreadSetup['modules'][number]
    const policy = policies[index] ??= new WasmPolicy(module, data, maxPages)
    return { text: policy.evaluate(entrypoint, input, timeNs) }
  } catch (error) {
    // What a trap left in the module's memory may be anything.
    policies[index] = undefined
    return { failed: error instanceof Error ? error.message : String(error) }
  } finally {
    Atomics.add(counts, 1, 1)
  }
}
