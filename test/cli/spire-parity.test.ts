import t from 'tap'
import { findCommand } from '../../src/cli/find-command.ts'
import { isGroup } from '../../src/cli/command.ts'
import { treeOf } from '../../src/cli/spire/spire-trees.ts'
import { askAgent, askServer } from './spire-parity/ask-ours.ts'
import { commands, readFacts, wordsOf } from './spire-parity/spire-facts.ts'

const facts = await readFacts()

for (const program of ['spire-server', 'spire-agent'] as const) {
  t.test(`${program} has every command and flag of SPIRE 1.15.3 (spire-surface §5)`, async t => {
    const tree = treeOf(program)
    const words = wordsOf(tree)
    t.same(commands[program].filter(command => !words.includes(command)), [])
    for (const command of commands[program]) {
      const { node } = findCommand(tree, command.split(' '), program)
      if (isGroup(node)) throw new Error(`${command} is a group`)
      const { flags } = await node.load()
      for (const [name, { takesValue, default: initial }] of Object.entries(facts.flags[`${program} ${command}`] ?? {})) {
        const flag = flags[name]
        const takes = flag === undefined ? undefined : flag.placeholder !== undefined || flag.valueMayFollow === true
        t.equal(takes, takesValue, `${program} ${command} -${name}`)
        // Where files and sockets are looked for under SPIRE's names is proved where they are found: spire-programs.test.ts.
        if (initial === undefined || name === 'socketPath' || name === 'config') continue
        t.match(flag?.defaultText ?? flag?.initial, defaultOf(initial), `${program} ${command} -${name}: its default`)
      }
    }
  })
}

t.test('the same command lines come to the same exit codes, JSON and rows as with SPIRE 1.15.3', async t => {
  const [server, agent] = [await askServer(), await askAgent()]
  t.same([server.length, agent.length], [facts.server.length, facts.agent.length])
  for (const [index, line] of server.entries()) t.strictSame(line, facts.server[index], `spire-server ${line.words}`)
  for (const [index, line] of agent.entries()) t.strictSame(line, facts.agent[index], `spire-agent ${line.words}`)
})

/** Go writes `720h0m0s`, and defaults of numbers as they are. */
function defaultOf (text: string): string { return text.replace(/(?<=h)0m0s$|(?<=m)0s$/, '') }
