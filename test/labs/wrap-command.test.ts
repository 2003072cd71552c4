import { spawnSync } from 'node:child_process'
import t from 'tap'
import { wrapCommand } from '../../labs/frame/wrap-command.ts'

await t.test('a long command is broken before flags and pipes, and means the same', async t => {
  t.equal(wrapCommand('echo short -n'), 'echo short -n')
  const long = `echo ${"-first 'one -two three' ".repeat(8)}-last "a | b" | tr a-z A-Z`
  const wrapped = wrapCommand(long)
  t.ok(wrapped.split('\n').length > 1 && wrapped.split('\n').every(line => line.length <= 120), wrapped)
  t.notMatch(wrapped, /one \\/, 'not inside quotes')
  t.match(wrapCommand(`echo ${'x'.repeat(90)} $(echo ${'y'.repeat(10)} -n ${'z'.repeat(30)}) -e`), /\) \\\n {4}-e$/, 'nor parentheses')
  const run = (line: string) => spawnSync('bash', ['-c', line], { encoding: 'utf8' }).stdout
  t.equal(run(wrapped), run(long))
  t.equal(wrapCommand('x'.repeat(200)), 'x'.repeat(200), 'what has no such place stays')
})
