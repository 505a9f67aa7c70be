"""Strings for `parse.dates`, each with the expected reading and why.

Rows: text, expected value or None, why.
"""

MDY = [
    ('2020-03-12', '2020-03-12', 'ISO'), ('2020/03/12', '2020-03-12', 'slashes'),
    ('2020.3.12', '2020-03-12', 'dots'), ('03/12/2020', '2020-03-12', 'mdy'),
    ('3/12/2020', '2020-03-12', 'no zeros'), ('3-12-2020', '2020-03-12', '-'),
    ('09/23/2014', '2014-09-23', 'as MedCalc writes'),
    ('23/09/2014', '2014-09-23', 'only one order is a date'),
    ('March 12, 2020', '2020-03-12', 'name'),
    ('Mar 12 2020', '2020-03-12', 'short name'),
    ('Mar. 12th, 2020', '2020-03-12', 'ordinal'),
    ('12 March 2020', '2020-03-12', 'day first'),
    ('12th of March, 2020', '2020-03-12', 'day first'),
    ('12-Mar-2020', '2020-03-12', 'hyphens'), ('12MAR2020', '2020-03-12', 'log'),
    ('Thursday, March 12, 2020', '2020-03-12', 'weekday'),
    ('Sept 1, 2021', '2021-09-01', 'four letters'),
    ('The date is 03/12/2020.', '2020-03-12', 'sentence'),
    ('03/12/2020 (March 12, 2020)', '2020-03-12', 'said twice'),
    ('2020-03-12T10:30', '2020-03-12', 'time behind'),
    ('03/12/2020 10:30', '2020-03-12', 'time behind'),
    ('**03/12/2020**', '2020-03-12', 'bold'), ('\n03/12/2020\n', '2020-03-12', ''),
    ('2020年3月12日', '2020-03-12', 'Chinese'),
    ('预产期是03/12/2020。', '2020-03-12', 'in a Chinese sentence'),
   
    ('２０２０年３月１２日', '2020-03-12', 'full width'),
    ('٢٠٢٠-٠٣-١٢', '2020-03-12', 'Arabic digits'),
    ('02/29/2020', '2020-02-29', 'leap year'),
    ('02/29/2021', None, 'no leap year'), ('02/30/2020', None, 'no such day'),
    ('13/13/2020', None, 'no such month'), ('2020-13-01', None, 'no such month'),
    ('03/12/20', None, 'which century'), ('03/12', None, 'no year'),
    ('March 2020', None, 'no day'), ('March 12', None, 'no year'),
    ('2020', None, 'a year'), ('2020-03', None, 'no day'),
    ('03/12/2020 or 03/13/2020', None, 'two'),
    ('03/12/2020/5', None, 'not a date'), ('20200312', None, 'eight digits'),
    ('1.03/12/2020', None, 'part of more'), ('00/12/2020', None, 'month zero'),
    ('0000-01-01', None, 'year zero'), ('Smarch 12, 2020', None, 'no month'),
    ('not 03/12/2020', None, 'denied'), ('before 03/12/2020', None, 'bound'),
    ('', None, 'empty'), ('N/A', None, 'declined'), ('12345', None, 'number'),
]

DMY = [
    ('03/12/2020', '2020-12-03', 'the order that was asked for'),
    ('3.12.2020', '2020-12-03', 'dots'), ('2020-03-12', '2020-03-12', 'ISO'),
    ('12/31/2020', '2020-12-31', 'only one order is a date'),
    ('March 12, 2020', '2020-03-12', 'a name has no order'),
]

DURATION = [
    ('39 weeks 2 days', (39, 2), 'plain'), ('39w2d', (39, 2), 'short'),
    ('39 weeks and 2 days', (39, 2), 'and'), ('39 wk, 2 d', (39, 2), 'short'),
    ("('39 weeks', '2 days')", (39, 2), 'as MedCalc writes'),
    ('(39, 2)', (39, 2), 'a pair'), ('39+2', (39, 2), 'obstetric'),
    ('39+2 weeks', (39, 2), 'obstetric'), ('39 2/7 weeks', (39, 2), 'sevenths'),
    ('39 weeks', (39, 0), 'weeks alone'), ('1 week 1 day', (1, 1), 'singular'),
    ('5 days', (0, 5), 'days alone'), ('10 days', (1, 3), 'days into weeks'),
    ('0 weeks 6 days', (0, 6), 'zero'), ('39 weeks, 9 days', (40, 2), 'carried'),
    ('GA: 39w 2d.', (39, 2), 'label'), ('**39 weeks 2 days**', (39, 2), 'bold'),
    ('39周2天', (39, 2), 'Chinese'), ('孕39周+2天', (39, 2), 'Chinese'),
    ('３９周', (39, 0), 'full width'), ('39 weeks 2 days (39+2)', (39, 2), 'twice'),
    ('39 weeks (273 days)', (39, 0), 'said twice'),
    ('39', None, 'no unit'), ('39.5 weeks', None, 'half a week'),
    ('39 weeks or 40 weeks', None, 'two'), ('-3 weeks', None, 'sign'),
    ('3 months', None, 'no weeks'), ('2 days 39 weeks', None, 'out of order'),
    ('39+9', None, 'nine days are no remainder'), ('week 39', None, 'ordinal'),
    ('38-39 weeks', None, 'range'), ('about weeks', None, 'no number'),
    ('up to 3 weeks', None, 'bound'), ('< 3 weeks', None, 'bound'),
    ('', None, 'empty'), ('N/A', None, 'declined'),
    ('9' * 5000 + ' weeks', None, 'int() would raise'),
]
